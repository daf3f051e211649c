// Who is looking at the page, and with which token.
//
// Promise: a token is requested only when there is none that will last, and it is
// never written to a URL, to a storage or to the console. The key of a development
// setup leaves the address bar at once; this tab keeps it for reloads.

import { claimsOf } from "../client/src/token-source.js";

/** A token with less than this left is not used for something new, in milliseconds. */
const SPARE_MS = 30_000;
/** Queues that a development token may request. */
const MAX_WANTED_QUEUES = 16;
/** Where this tab keeps the key that gets it development tokens. */
const DEV_KEY = "belfry.devKey";
/** Where the browser keeps its name. */
const DEVICE_KEY = "belfry.device";

/**
 * @typedef {object} PageConfig
 * @property {string} wsUrl
 * @property {string} processorsUrl without a slash at its end
 * @property {boolean} devTokens
 * @property {() => number} now the edge's clock, in Unix milliseconds: this machine's may be wrong
 */

/** @returns {Promise<PageConfig>} */
export async function loadConfig() {
  const answer = await fetch("/config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`/config.json answered ${answer.status}: is this page served by an edge?`);
  const config = await answer.json();
  const at = Date.parse(answer.headers.get("date") ?? "") || Date.now();
  const since = performance.now();
  const now = () => at + performance.now() - since;
  return { ...config, now, processorsUrl: String(config.processorsUrl).replace(/\/$/, "") };
}

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

/** The user of this page and their token. */
export class Session {
  /** @type {{token: string, endsAt: number} | null} */
  #current = null;
  /** One request at a time; @type {Promise<string> | null} */
  #pending = null;
  /** Shown to the edge for development tokens; empty if the page has none. */
  #devKey = "";
  #edgeGivesTokens;
  #wantedQueues;

  /** @param {PageConfig} config */
  constructor(config) {
    this.#edgeGivesTokens = config.devTokens;
    if (config.devTokens) {
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

  /**
   * A token that still lasts.
   *
   * @param {boolean} [refused] the last one was not accepted
   * @returns {Promise<string>}
   */
  token(refused = false) {
    if (refused) this.#current = null;
    if (this.#current && this.#current.endsAt - Date.now() > SPARE_MS) return Promise.resolve(this.#current.token);
    this.#pending ??= this.#fetch(refused).finally(() => {
      this.#pending = null;
    });
    return this.#pending;
  }

  /** @param {boolean} refused */
  async #fetch(refused) {
    if (!this.#edgeGivesTokens) return this.#given(refused);
    const answer = await fetch("/dev/token", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.#devKey}` },
      body: JSON.stringify({ user: this.user, queues: this.#wantedQueues }),
    });
    if (answer.status === 401) {
      // Opened without the key, or with that of an earlier start.
      sessionStorage.removeItem(DEV_KEY);
      this.#edgeGivesTokens = false;
      return this.#given(refused);
    }
    if (!answer.ok) throw new Error(`/dev/token answered ${answer.status} for user ${this.user}`);
    const { token, expiresAt } = await answer.json();
    const endsAt = Date.parse(expiresAt);
    this.#current = { token, endsAt: Number.isFinite(endsAt) ? endsAt : 0 };
    return String(token);
  }

  /** @param {boolean} refused */
  async #given(refused) {
    const set = /** @type {{BELFRY_TOKEN?: unknown}} */ (window).BELFRY_TOKEN;
    const token = typeof set === "string" && !refused ? set : await askForToken();
    this.#current = { token, endsAt: Infinity };
    return token;
  }
}

/** @returns {Promise<string>} */
function askForToken() {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("token-dialog"));
  const input = /** @type {HTMLTextAreaElement} */ (document.getElementById("token-input"));
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
