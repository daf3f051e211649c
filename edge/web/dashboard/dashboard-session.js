// Who is looking at the page, and with which token.
//
// Promise: a token is requested only when there is none that will last, and it is
// never written to a URL, to a storage or to the console. The key of a development
// setup leaves the address bar at once; this tab keeps it for reloads. How long a token
// lasts is counted from what the edge says, whatever this machine's clock shows.

import { claimsOf } from "../client/src/token-source.js";

/** A token with less than this left is not used for something new, in milliseconds. */
const SPARE_MS = 30_000;
/** Queues that a development token may request. */
const MAX_WANTED_QUEUES = 16;
/** How long a token is accepted after the end that it names, in milliseconds: part of `expiresInMs`. */
const LEEWAY_MS = 4_500;
/** Where this tab keeps the key that gets it development tokens. */
const DEV_KEY = "belfry.devKey";
/** Where the browser keeps its name. */
const DEVICE_KEY = "belfry.device";

/**
 * What this browser is called in receipts, the same in all its tabs and after a
 * reload. Random: nothing about the person or the machine is in it.
 *
 * @returns {string | undefined} nothing if the browser keeps nothing
 */
export function deviceName() {
  try {
    const known = localStorage.getItem(DEVICE_KEY) ?? "";
    if (/^browser-[0-9a-f]{8}$/.test(known)) return known;
    const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
    const name = `browser-${random.toString(16).padStart(8, "0")}`;
    localStorage.setItem(DEVICE_KEY, name);
    return name;
  } catch {
    return undefined;
  }
}

/**
 * Takes the key out of the address that `belfry up` printed: `/#key=…`.
 *
 * @returns {string} empty if the page was opened without one
 */
function takeDevKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return sessionStorage.getItem(DEV_KEY) ?? "";
  sessionStorage.setItem(DEV_KEY, key);
  history.replaceState(history.state, "", location.pathname + location.search);
  return key;
}

/**
 * Why another token is needed: that of the client, or `processors` if they refused it.
 *
 * @typedef {import("../client/src/token-source.js").TokenCause | "processors"} Cause
 */

/** What the dialog says of each cause; @type {Record<Cause, string>} */
const WHY = {
  connect: "",
  refresh: "Your access token is about to expire. Paste a new one to stay connected.",
  expired: "Your access token has expired. Paste a new one.",
  rejected: "Your access token was not accepted.",
  processors: "The processors did not accept your access token.",
};

/** The user of this page and their token. */
export class Session {
  /** `endsAt` by `performance.now()`; @type {{token: string, endsAt: number} | null} */
  #current = null;
  /** One request at a time; @type {Promise<string> | null} */
  #pending = null;
  /** What the edge said of the last token that it refused. */
  #refusal = "";
  /** Unix milliseconds at `performance.now() === 0`, by the edge's clock once it is known. */
  #epochMs = Date.now() - performance.now();
  /** Shown to the edge for development tokens; empty if the page has none. */
  #devKey = "";
  #edgeGivesTokens;
  #tokenUrl;
  #wantedQueues;

  /**
   * @param {boolean} devTokens whether the edge gives development tokens
   * @param {string} tokenUrl where
   */
  constructor(devTokens, tokenUrl) {
    this.#edgeGivesTokens = devTokens;
    this.#tokenUrl = tokenUrl;
    if (devTokens) {
      this.#devKey = takeDevKey();
      // The address of another start, opened in this tab, does not load the page again.
      addEventListener("hashchange", () => {
        if (takeDevKey() !== this.#devKey) location.reload();
      });
    }
    const params = new URLSearchParams(location.search);
    /** The user, as far as the page knows: the edge decides by the token. */
    this.user = params.get("user") || "demo";
    /** The queues that a development token should grant: `?queues=support,orders-*`. */
    this.#wantedQueues = (params.get("queues") ?? "*").split(",").filter((queue) => queue !== "").slice(0, MAX_WANTED_QUEUES);
  }

  /** Whether the edge gives this page its tokens; otherwise a person does. */
  get edgeGivesTokens() {
    return this.#edgeGivesTokens;
  }

  /**
   * Queues that the token grants, as it says itself: names, or prefixes that end
   * in `*`.
   *
   * @returns {string[]}
   */
  get grants() {
    const { queues } = claimsOf(this.#current?.token ?? "");
    return (Array.isArray(queues) ? queues : []).filter((queue) => typeof queue === "string");
  }

  /** @returns {number} Unix milliseconds, by the edge's clock */
  now() {
    return this.#epochMs + performance.now();
  }

  /** The edge accepted the token for so long from now. @param {unknown} expiresInMs */
  accepted(expiresInMs) {
    this.#refusal = "";
    if (typeof expiresInMs !== "number" || !this.#current) return;
    this.#current.endsAt = performance.now() + expiresInMs;
    const { exp } = claimsOf(this.#current.token);
    if (typeof exp === "number") this.#epochMs = exp * 1_000 + LEEWAY_MS - expiresInMs - performance.now();
  }

  /** The edge ended the connection. @param {unknown} message why */
  ended(message) {
    this.#refusal = typeof message === "string" ? message : "";
  }

  /**
   * A token that still lasts.
   *
   * @param {Cause} [cause] anything but `connect`: the last one is not used again
   * @returns {Promise<string>}
   */
  token(cause = "connect") {
    const lasts = this.#current !== null && this.#current.endsAt - performance.now() > SPARE_MS;
    if (this.#current && lasts && cause === "connect") return Promise.resolve(this.#current.token);
    const why = cause === "connect" && this.#current ? "expired" : cause;
    // The old one still names what it grants until there is another.
    if (this.#current && cause !== "refresh") this.#current.endsAt = 0;
    this.#pending ??= this.#fetch(why).finally(() => {
      this.#pending = null;
    });
    return this.#pending;
  }

  /** @param {Cause} cause */
  async #fetch(cause) {
    if (!this.#edgeGivesTokens) return this.#given(cause);
    const answer = await fetch(this.#tokenUrl, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.#devKey}` },
      body: JSON.stringify({ user: this.user, queues: this.#wantedQueues }),
    });
    if (answer.status === 401) {
      // Opened without the key, or with that of an earlier start.
      sessionStorage.removeItem(DEV_KEY);
      this.#edgeGivesTokens = false;
      return this.#given(cause);
    }
    if (!answer.ok) throw new Error(`${this.#tokenUrl} answered ${answer.status} for user ${this.user}`);
    const { token, expiresInMs } = await answer.json();
    this.#current = { token: String(token), endsAt: performance.now() + (Number(expiresInMs) || 0) };
    return this.#current.token;
  }

  /** @param {Cause} cause */
  async #given(cause) {
    const set = /** @type {{BELFRY_TOKEN?: unknown}} */ (window).BELFRY_TOKEN;
    const said = cause === "rejected" && this.#refusal !== "" ? ` The edge says: ${this.#refusal}.` : "";
    const token = typeof set === "string" && cause === "connect" ? set : await askForToken(WHY[cause] + said);
    this.#current = { token, endsAt: Infinity };
    return token;
  }
}

/** @param {string} why empty at first @returns {Promise<string>} */
function askForToken(why) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("token-dialog"));
  const input = /** @type {HTMLTextAreaElement} */ (document.getElementById("token-input"));
  const reason = /** @type {HTMLElement} */ (document.getElementById("token-reason"));
  reason.textContent = why;
  reason.hidden = why === "";
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        const token = input.value.trim();
        input.value = "";
        if (dialog.returnValue === "use" && token !== "") resolve(token);
        else reject(new Error("no token was given"));
      },
      { once: true },
    );
    if (!dialog.open) dialog.showModal();
  });
}
