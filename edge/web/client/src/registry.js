// What the scripts of one page share, whether they were loaded as classic scripts,
// as modules or by a bundler.
//
// Promise: one record for each page, worker or process; a script that is loaded
// twice finds what the first one left.

/**
 * @typedef {object} Registry
 * @property {() => any} [toasts] the page's toasts, made on first use
 * @property {(client: any, options?: import("./event-toasts.js").EventToastsOptions) => void} [announce] shows a client's events as toasts
 * @property {typeof import("./tab-share.js").shareTabs} [share] one connection for all tabs
 * @property {typeof import("./event-links.js").completeLinks} [link] completes links in events before handlers run
 * @property {any} [Client]
 * @property {any} [dashboard] the client that the auto-start made
 */

const KEY = Symbol.for("belfry.client");

/** @type {Registry} */
export const registry = (/** @type {any} */ (globalThis)[KEY] ??= {});

/**
 * Sets globals of a page; a script that was loaded before keeps its own. Nothing
 * where there is no `window`.
 *
 * @param {Record<string, unknown>} names
 */
export function publish(names) {
  if (typeof window === "undefined") return;
  for (const [name, value] of Object.entries(names)) /** @type {any} */ (window)[name] ??= value;
}

/**
 * Shows a client's events as toasts.
 *
 * @param {any} client
 * @param {true | import("./toast-notifications.js").ToastNotificationSystem} toasts `true`: the page's own
 */
export function announce(client, toasts) {
  if (!registry.announce) throw new Error("`toasts` needs toast-notifications.js: load it first");
  registry.announce(client, toasts === true ? {} : { toasts });
}
