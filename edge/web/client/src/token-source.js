// Where a client's tokens come from, and when the next one is due.
//
// Promise: a token or an error within `TIMEOUT_MS`; a token is kept nowhere else and
// is never part of an error. A device's clock that is wrong costs at most one token
// a minute.

/** A token function that does not answer within this has failed, in milliseconds. */
const TIMEOUT_MS = 20_000;
/** A token is refreshed this long before it expires, in milliseconds. */
const REFRESH_BEFORE_MS = 60_000;
/** The shortest time between two refreshes, in milliseconds. */
const MIN_REFRESH_MS = 1_000;
/** The same where only this device's clock says how long the token lasts. */
const MIN_CLOCK_REFRESH_MS = 60_000;
/** Timers of browsers hold 31 bits. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Why a token is needed: `connect` at first, `refresh` before the old one expires,
 * `expired` or `rejected` if the edge did not accept the last one.
 *
 * @typedef {"connect" | "refresh" | "expired" | "rejected"} TokenCause
 */

/** @typedef {string | ((cause: TokenCause) => Promise<string>)} TokenOption */

/** Supplies tokens. */
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
   * When to request the next token of a connection after its edge accepted this one, in
   * milliseconds from now; `null`: never, the edge will say when it has expired.
   *
   * @param {string} token
   * @param {unknown} [expiresInMs] what the edge said of it
   * @returns {number | null}
   */
  refreshInMs(token, expiresInMs) {
    if (this.fixed) return null;
    const { exp, iat } = claimsOf(token);
    const edgeMs = typeof expiresInMs === "number" ? expiresInMs : typeof iat === "number" ? (exp - iat) * 1_000 : NaN;
    if (Number.isFinite(edgeMs)) return refreshMs(edgeMs, MIN_REFRESH_MS);
    // An older edge, and a token that names only its end. The edge accepted it, so it
    // has not expired: a clock that says otherwise is wrong.
    const clockMs = exp * 1_000 - Date.now();
    return clockMs > 0 ? refreshMs(clockMs, MIN_CLOCK_REFRESH_MS) : null;
  }
}

/** @param {number} leftMs @param {number} minMs */
function refreshMs(leftMs, minMs) {
  return Math.min(MAX_TIMER_MS, Math.max(leftMs - REFRESH_BEFORE_MS, leftMs / 2, minMs));
}

/**
 * What a token says about itself; nobody has verified it. Empty if it cannot be read.
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
