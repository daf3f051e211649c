// Firefox or WebKit with an existing page, its backend and the real binary: one browser
// and one edge for all rows of the contract, a user for each. Needs BELFRY_BIN.

import { after, afterEach, before, beforeEach, test } from "node:test";
import { picture, Site, STATUS, tags } from "./own-page.mjs";
import { until } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

/** In each page's head: what the row looks at, noted from the start. @param {string} user */
const recorder = (user) => `<script nonce="n1">
  Object.assign(window, { seen: JSON.parse(sessionStorage.getItem("seen ${user}") ?? "[]"), violations: [], warned: [], changes: [] });
  console.warn = (...all) => window.warned.push(all.join(" "));
  addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
  addEventListener("DOMContentLoaded", () => {
    const status = document.querySelector("#ws-connection-status");
    if (status) new MutationObserver(() => changes.push(status.textContent)).observe(status, { childList: true });
    window.getDashboardWebSocket?.()?.on("*", (event) => {
      window.seen.push(event.documentId);
      sessionStorage.setItem("seen ${user}", JSON.stringify(window.seen));
    });
  });
</script>`;

/**
 * Sets the world up for the rows of one browser.
 *
 * @param {string} name
 * @param {() => Promise<{newTab: () => Promise<import("../browsers.mjs").Tab>, close: () => Promise<void>} | null>} launch
 */
export function otherBrowserWorld(name, launch) {
  /** @type {Awaited<ReturnType<typeof launch>>} */
  let browser = null;
  /** @type {import("../browsers.mjs").Tab[]} */
  const tabs = [];
  const world = {
    name,
    /** How long tokens last. */
    lastsMs: 3_600_000,
    edge: /** @type {RealEdge} */ (/** @type {any} */ (null)),
    site: /** @type {Site} */ (/** @type {any} */ (null)),
    check,
    page,
    bare,
    open,
    plain: () => open(page("/")),
    publish: (/** @type {number | string} */ n) => world.edge.publish("image_processed", picture(n)),
    burst: (/** @type {number} */ from, /** @type {number} */ to) => world.edge.publishAll(Array.from({ length: to - from }, (_, n) => ["image_processed", picture(from + n)])),
  };

  before(async () => {
    browser = await launch();
    if (!browser) return;
    world.site = await Site.start((user) => world.edge.sign(user, { lastsMs: world.lastsMs }));
    world.edge = await RealEdge.start([world.site.origin]);
  });
  after(async () => {
    await browser?.close();
    await world.edge?.stop();
    await world.site?.stop();
  });
  beforeEach(async () => {
    if (!browser) return;
    await until(() => world.edge.sessions === 0, "no session of another row");
    world.lastsMs = 3_600_000;
    world.edge.nextUser();
    world.site.tokens = [];
  });
  afterEach(async () => {
    // The first tab is kept: a driver ends with its last one.
    for (const tab of tabs.splice(1)) await tab.close();
    await tabs[0]?.goto("about:blank");
  });

  /** A row of the contract. @param {string} title @param {(t: import("node:test").TestContext) => Promise<void>} run */
  function check(title, run) {
    test(title, async (t) => (browser ? run(t) : t.skip(`${name} is not installed`)));
  }

  /** The address of a page of this row's user: some HTML, its status, and the tags. */
  function page(path, body = "", { from = world.edge.url, tag = "", attributes = 'data-token-url="/token"', user = `data-user-id="${world.edge.user}"`, head = "", ...options } = {}) {
    return world.site.page(path, `${body}${STATUS}${tags(from, tag)}`, { attributes: `${user} ${attributes}`, head: `${recorder(world.edge.user)}${head}`, ...options });
  }

  /** A page with the first two scripts alone: it makes its client itself. */
  async function bare() {
    const scripts = ["toast-notifications", "websocket-client"].map((script) => `<script src="${world.edge.url}js/${script}.js"></script>`);
    const tab = await open(world.site.page("/bare", scripts.join("")), { waits: false });
    /** Makes `window.client`, which notes its states and what it emits from the start. */
    const connect = (more = {}) =>
      tab.evaluate((url, token, options) => {
        Object.assign(window, { states: [], log: [] });
        window.client = new window.DashboardWebSocketClient({ url, token, ...options });
        for (const event of ["connected", "disconnected", "error", "gap", "state"]) window.client.on(event, () => window.log.push(event));
        window.client.on("state", ({ state }) => window.states.push(state));
        window.states.push(window.client.state);
        window.client.connect();
      }, world.edge.wsUrl, world.edge.sign(world.edge.user), more);
    const connected = () => until(() => tab.evaluate(() => window.client.state === "connected"), "connected");
    return { tab, connect, connected };
  }

  /** @param {string} url @param {{waits?: boolean, n?: number}} [options] the tab's number, from 0 */
  async function open(url, { waits = true, n = 0 } = {}) {
    const tab = (tabs[n] ??= await /** @type {NonNullable<typeof browser>} */ (browser).newTab());
    await tab.goto(url);
    if (waits) await live(tab);
    return tab;
  }
  return world;
}

/** @typedef {ReturnType<typeof otherBrowserWorld>} World */

/** @param {import("../browsers.mjs").Tab} tab @param {string} [wanted] */
export const live = (tab, wanted = "live") => until(() => tab.evaluate((state) => document.querySelector("#ws-connection-status")?.dataset.state === state, wanted), `the status ${wanted}`);

/** What is on the screen, oldest first: `kind: title: text`. @param {import("../browsers.mjs").Tab} tab @returns {Promise<string[]>} */
export const toasts = (tab) => tab.evaluate(() => [...(document.querySelector("belfry-toasts")?.shadowRoot?.querySelectorAll(".toast") ?? [])].map((toast) => `${toast.dataset.kind}: ${toast.querySelector(".toast-title").textContent || toast.querySelector(".toast-open").textContent}: ${toast.querySelector(".toast-text").textContent}`));

/** Documents of the events that the page's handler received, reloads included. @param {import("../browsers.mjs").Tab} tab @returns {Promise<string[]>} */
export const seen = (tab) => tab.evaluate(() => window.seen);

/** Clicks on what is inside an element of the client. @param {import("../browsers.mjs").Tab} tab @param {string} host @param {string} selector */
export const click = (tab, host, selector) => tab.evaluate((element, inner) => document.querySelector(element).shadowRoot.querySelector(inner).click(), host, selector);

/** No toast goes by itself from now on: the pointer is on them. @param {import("../browsers.mjs").Tab} tab */
export const hold = (tab) =>
  tab.evaluate(() => {
    window.showToast("held", "", "info", 0);
    document.querySelector("belfry-toasts").shadowRoot.querySelector(".toasts").dispatchEvent(new PointerEvent("pointerover"));
  });
