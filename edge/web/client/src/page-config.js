// What an existing page says about itself: its user, where its tokens come from and
// where the edge is.
//
// Promise: reads only; a page that lacks something gets one sentence that
// names what to add. Who the user is decides the token, never the page.

/**
 * @typedef {object} DashboardConfig
 * @property {string} [user]
 * @property {string} [tokenUrl] answers `POST` with `{"user"}` by `{"token"}`
 * @property {(cause: import("./token-source.js").TokenCause) => Promise<string>} [token] instead of `tokenUrl`
 * @property {string} [wsUrl] by default `/ws` beside the folder that the scripts came from
 * @property {string[]} [queues]
 * @property {number} [heartbeatInterval] in milliseconds
 * @property {boolean} [toasts] `false`: none
 */

/** Where the auto-start was loaded from, read while it runs. */
const SCRIPT = typeof document === "undefined" ? "" : (/** @type {HTMLScriptElement | null} */ (document.currentScript)?.src ?? "");

/** @returns {DashboardConfig} what the page set as `BelfryConfig` */
export function pageConfig() {
  return /** @type {any} */ (window).BelfryConfig ?? {};
}

/** @returns {string | undefined} whose token the page asks for */
export function findUser() {
  const config = pageConfig();
  const candidates = [config.user, stored("userId"), stored("user_id"), attribute("data-user-id"), /** @type {any} */ (window).currentUserId];
  const found = candidates.find((user) => (typeof user === "string" && user !== "") || Number.isFinite(user));
  return found === undefined ? undefined : String(found);
}

/** @param {string} key */
function stored(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    // The browser keeps nothing for this page.
    return null;
  }
}

/** Of `<body>`, or of the first element that has it. @param {string} name */
function attribute(name) {
  return document.querySelector(`body[${name}], html[${name}], [${name}]`)?.getAttribute(name);
}

/** @param {DashboardConfig} config */
export function findTokenUrl(config) {
  const meta = document.querySelector('meta[name="belfry-token-url"]')?.getAttribute("content");
  const url = config.tokenUrl || attribute("data-token-url") || meta;
  return url ? new URL(url, document.baseURI).href : undefined;
}

/**
 * The edge's WebSocket: what the page says, or `ws` beside the folder of the script:
 * `https://live.example/belfry/js/…` → `wss://live.example/belfry/ws`.
 *
 * @param {DashboardConfig} config
 */
export function findWsUrl(config) {
  const script = SCRIPT || document.querySelector('script[src*="dashboard-websocket-init"]')?.getAttribute("src") || "";
  const meta = document.querySelector('meta[name="belfry-ws-url"]')?.getAttribute("content");
  const said = config.wsUrl || attribute("data-ws-url") || meta;
  const besides = new URL(script || "/js/", document.baseURI);
  const url = said ? new URL(said, document.baseURI) : new URL("../ws", besides);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!said) url.search = "";
  url.hash = "";
  return url.href;
}

/**
 * @param {string} url
 * @param {string} user
 * @returns {Promise<string>}
 */
export async function fetchToken(url, user) {
  const answer = await fetch(url, {
    method: "POST",
    credentials: "include",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ user }),
  });
  const where = url.split(/[?#]/)[0];
  if (!answer.ok) throw new Error(`${where} answered ${answer.status}`);
  const text = (await answer.text()).trim();
  if (!text.startsWith("{")) return text;
  const { token } = JSON.parse(text);
  if (typeof token !== "string") throw new Error(`${where} answered without \`token\``);
  return token;
}
