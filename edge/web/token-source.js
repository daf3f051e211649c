// Where a client's tokens come from, and how long each of them lasts.
//
// Promise: an answer or an error within `TIMEOUT_MS`; the token is kept nowhere
// else and is never part of an error.

/** A token function that does not answer within this has failed, in milliseconds. */
const TIMEOUT_MS = 20_000;
/** A new token is asked for this long before the old one ends, in milliseconds. */
const REFRESH_BEFORE_MS = 60_000;
/** And never sooner than this, in milliseconds. */
const REFRESH_AFTER_MS = 1_000;
/** Timers of browsers hold 31 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Why a token is asked for: `connect` at first, `refresh` before the old one
 * ends, `expired` or `rejected` if the edge did not take the last one.
 *
 * @typedef {"connect" | "refresh" | "expired" | "rejected"} TokenCause
 */

/** @typedef {string | ((cause: TokenCause) => Promise<string>)} TokenOption */

/** Gives tokens. */
export class TokenSource {
  #option;
  #world;

  /**
   * @param {TokenOption} option
   * @param {import("./connection.js").World} world
   */
  constructor(option, world) {
    this.#option = option;
    this.#world = world;
  }

  /** @returns {boolean} true if asking again gives the same token */
  get fixed() {
    return typeof this.#option === "string";
  }

  /**
   * @param {TokenCause} cause
   * @returns {Promise<string>}
   */
  async get(cause) {
    if (typeof this.#option === "string") return this.#option;
    /** @type {unknown} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = this.#world.setTimeout(() => reject(new Error("the token function did not answer in time")), TIMEOUT_MS);
    });
    try {
      return /** @type {string} */ (await Promise.race([this.#option(cause), late]));
    } finally {
      this.#world.clearTimeout(timer);
    }
  }

  /**
   * When to ask for the next one, in milliseconds from now; `null`: never.
   *
   * @param {string} token
   * @returns {number | null}
   */
  refreshInMs(token) {
    const leftMs = lifetimeMs(token);
    if (this.fixed || leftMs === null) return null;
    return Math.min(MAX_TIMER_MS, Math.max(leftMs - REFRESH_BEFORE_MS, leftMs / 2, REFRESH_AFTER_MS));
  }
}

/**
 * What a token says about itself; nobody has checked it. Empty if it cannot be read.
 *
 * @param {string} token
 * @returns {Record<string, any>}
 */
export function claimsOf(token) {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : {};
  } catch {
    return {};
  }
}

/**
 * How long a token lasts by its own words: `exp` less `iat`, so that a wrong
 * clock here does not matter. `null` if it does not say.
 *
 * @param {string} token
 */
function lifetimeMs(token) {
  const { exp, iat } = claimsOf(token);
  const seconds = exp - (iat ?? Date.now() / 1000);
  return Number.isFinite(seconds) ? seconds * 1000 : null;
}
