// Makes an existing page live: connects, shows toasts, and keeps its lists, sections,
// counts and status up to date.
//
// Promise: one client for each page; it goes with the page and comes back with it from
// the back/forward cache; a page that lacks something gets one sentence in the console.

import { followStatus, STATUS_TEXT } from "./connection-status.js";
import { completeLinks } from "./event-links.js";
import { phaseOf } from "./jobs.js";
import { fetchToken, findTokenUrl, findUser, findWsUrl, pageConfig } from "./page-config.js";
import { PageUpdates, sectionOf } from "./page-updates.js";
import { registry } from "./registry.js";
import { shareTabs } from "./tab-share.js";
import { shareToasts } from "./tab-toasts.js";

/** Announces to `<belfry-status>` that there is a client. */
const CLIENT_EVENT = "belfry:client";

/** The close code of a person with too many connections. */
const TOO_MANY = 4_009;
/** The key of the toast about the connection: each tab has its own, which no other takes away. */
const CONNECTION_TOAST = `belfry-connection ${Math.random()}`;

registry.share ??= shareTabs;
registry.link ??= completeLinks;

/** @typedef {import("./websocket-client.js").DashboardWebSocketClient} Client */
/** @typedef {import("./page-config.js").DashboardConfig} DashboardConfig */

/**
 * @param {DashboardConfig} [given] before what the page says
 * @returns {Client | null} null if the page lacks something; the console says what
 */
export function startDashboard(given = {}) {
  if (registry.dashboard) return registry.dashboard;
  const config = { ...pageConfig(), ...given };
  const user = config.user ?? findUser();
  const tokenUrl = findTokenUrl(config);
  const lack = missing(config, user, tokenUrl);
  if (lack !== undefined || user === undefined) {
    console.warn(`Belfry: ${lack}`);
    showStatus("offline", lack ?? "");
    return null;
  }
  const url = findWsUrl(config);
  const share = `${url} ${user}`;
  /** @type {Client} */
  const client = new registry.Client({
    url,
    token: config.token ?? (() => fetchToken(/** @type {string} */ (tokenUrl), user)),
    queues: config.queues,
    heartbeatInterval: config.heartbeatInterval,
    storage: storageOf(),
    storageKey: `belfry.positions ${share}`,
    share,
  });
  registry.dashboard = client;
  if (config.toasts !== false) announce(client, share);
  keepUpToDate(client);
  comeAndGo(client);
  document.dispatchEvent(new CustomEvent(CLIENT_EVENT));
  client.connect();
  return client;
}

/** @param {DashboardConfig} config @param {string | undefined} user @param {string | undefined} tokenUrl */
function missing(config, user, tokenUrl) {
  if (!registry.Client) return "websocket-client.js is not loaded, its script tag belongs before that of dashboard-websocket-init.js";
  if (config.toasts !== false && !registry.toasts) return "toast-notifications.js is not loaded, its script tag belongs before that of dashboard-websocket-init.js";
  if (user === undefined) return 'the page does not say whose updates it shows, add `data-user-id="…"` to <body>';
  if (!config.token && !tokenUrl) return 'the page does not say where its tokens come from, add `data-token-url="/your/token/endpoint"` to <body> (or <meta name="belfry-token-url" content="…">, or BelfryConfig.tokenUrl)';
  return undefined;
}

/** @param {Client} client @param {string} share */
function announce(client, share) {
  const toasts = registry.toasts?.();
  const storage = storageOf();
  if (storage) toasts.keepIn(storage, `belfry.notices ${share}`);
  const tabs = shareToasts(share, toasts);
  registry.announce?.(client, tabs ? { toasts, announce: (...all) => tabs.announce(...all), front: () => tabs.front } : { toasts });
  client.on("state", (/** @type {any} */ { state, code, sentence }) => {
    const ended = { kind: "error", title: "No live updates", text: sentence, key: CONNECTION_TOAST };
    if (state === "connected") toasts.dismiss(CONNECTION_TOAST);
    // The person may prefer this place to the others.
    else if (state === "disconnected" && code === TOO_MANY) toasts.show({ ...ended, kind: "warning", title: "Use live updates here", stayMs: 0, open: () => client.reconnect() });
    else if (state === "disconnected" && sentence) toasts.show(ended);
  });
  client.on("error", ({ code, message }) => {
    if (code === "token_failed") console.warn(`Belfry: no token, ${message}`);
  });
}

/** @param {Client} client */
function keepUpToDate(client) {
  const updates = new PageUpdates();
  client.on("*", (event) => {
    const phase = phaseOf(event);
    const section = sectionOf(event);
    if (phase === null || phase !== "running") updates.refresh(section);
    if (event.type === "job_progress") return;
    updates.mark(event);
    if (phase === "done") updates.count(section);
  });
  // What is gone for good, or was there before the first event, is in the lists.
  client.on("gap", () => {
    for (const section of /** @type {const} */ (["images", "reports", "transcriptions", "updates"])) updates.refresh(section);
  });
  followStatus(client, showStatus);
  addEventListener("pagehide", () => updates.stop());
}

/** @param {import("./connection-status.js").Status} status @param {string} sentence */
function showStatus(status, sentence) {
  const element = document.getElementById("ws-connection-status");
  if (!element) return;
  if (!element.hasAttribute("role")) element.setAttribute("role", "status");
  element.dataset.state = status;
  element.title = sentence;
  element.textContent = STATUS_TEXT[status];
}

/** @param {Client} client */
function comeAndGo(client) {
  let went = false;
  addEventListener("pagehide", () => {
    went = client.state !== "disconnected";
    client.close();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted && went) client.connect();
  });
}

/** @returns {Storage | undefined} */
function storageOf() {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
}

/** @returns {Client | null} the client that the auto-start made */
export function getDashboardWebSocket() {
  return registry.dashboard ?? null;
}
