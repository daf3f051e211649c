// The options of a client, and what holds where a page does not say.

/**
 * @typedef {object} Options
 * @property {string} url `ws://…/ws` or `wss://…/ws`
 * @property {import("./token-source.js").TokenOption} token a JWT, or where to get a fresh one for each connection
 * @property {string[]} [queues] followed from the start
 * @property {number} [heartbeatInterval] between two pings in milliseconds, 30,000 by default: with `pongTimeoutMs` a dead edge is noticed within 35 s
 * @property {number} [pongTimeoutMs] how long a pong may take, 5,000 by default
 * @property {number} [connectTimeoutMs] from opening to `connected`, 35,000 by default
 * @property {boolean | import("./toast-notifications.js").ToastNotificationSystem} [toasts] `true`: shows a toast for each event, in the page's toasts
 * @property {string} [share] tabs of this browser that pass the same name share one connection: put the user into it. Needs Web Locks and BroadcastChannel; without them each tab has its own
 * @property {Pick<Storage, "getItem" | "setItem">} [storage] keeps positions over a reload, for example `sessionStorage`; use another `storageKey` for each user
 * @property {string} [storageKey] `belfry.positions` by default
 * @property {string} [device] names this device in receipts: 1 to 64 printable ASCII characters; the session's id by default
 * @property {boolean} [receipts] `false`: no receipts are sent
 * @property {Partial<import("./connection.js").World>} [world] clock, timers, randomness and sockets, for tests
 */

const DEFAULTS = {
  heartbeatInterval: 30_000,
  pongTimeoutMs: 5_000,
  connectTimeoutMs: 35_000,
  storageKey: "belfry.positions",
  receipts: true,
};

/** @param {Options} options */
export function withDefaults(options) {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const complete = { ...options, ...DEFAULTS, ...given };
  for (const name of /** @type {const} */ (["heartbeatInterval", "pongTimeoutMs", "connectTimeoutMs"])) {
    const ms = complete[name];
    if (!(ms > 0 && ms < 2 ** 31)) throw new RangeError(`\`${name}\` is ${ms}, it must be milliseconds between 1 and 2,147,483,647`);
  }
  return complete;
}
