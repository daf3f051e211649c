// An existing page, its backend and the real binary for the tests of one file: each
// test has a user, a profile and pages of its own. Needs BELFRY_BIN.

import { after, afterEach, before, beforeEach } from "node:test";
import { Site, STATUS, tags } from "./own-page.mjs";
import { openBrowser, TIMEOUT_MS } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

/** The page's status is that of a live connection. */
export const live = (page) => page.locator('#ws-connection-status[data-state="live"]').waitFor();

/**
 * Sets the world up for a file's tests.
 *
 * @param {{browserArgs?: string[], launch?: Record<string, any>, belfryArgs?: string[]}} [options]
 */
export function ownPageWorld({ browserArgs, launch, belfryArgs } = {}) {
  const world = {
    /** How long tokens last. */
    lastsMs: 3_600_000,
    /** What pages report that should not be. */
    faults: [],
    chromium: /** @type {any} */ (null),
    edge: /** @type {RealEdge} */ (/** @type {any} */ (null)),
    site: /** @type {Site} */ (/** @type {any} */ (null)),
    context: /** @type {import("playwright-core").BrowserContext} */ (/** @type {any} */ (null)),
    page,
    open,
    plain: (/** @type {any} */ options) => open(page("/", "", options)),
  };

  before(async () => {
    world.chromium = await openBrowser(browserArgs, launch);
    world.site = await Site.start((user) => world.edge.sign(user, { lastsMs: world.lastsMs }));
    world.edge = await RealEdge.start([world.site.origin], belfryArgs);
  });
  after(async () => {
    await world.chromium?.browser.close();
    await world.edge?.stop();
    await world.site?.stop();
  });
  beforeEach(async () => {
    world.lastsMs = 3_600_000;
    world.edge.nextUser();
    world.edge.network.stall(false);
    world.site.tokens = [];
    world.faults = [];
    world.context = await world.chromium.browser.newContext({ viewport: { width: 900, height: 700 } });
  });
  afterEach(() => world.context.close());

  /** The address of a page of this test's user: some HTML, its status, and the tags. */
  function page(path, body = "", { from = world.edge.url, tag = "", attributes = 'data-token-url="/token"', user = `data-user-id="${world.edge.user}"`, ...options } = {}) {
    return world.site.page(path, `${body}${STATUS}${tags(from, tag)}`, { attributes: `${user} ${attributes}`, ...options });
  }

  /** Opens an address in a tab of the profile. */
  async function open(url, { init = /** @type {any} */ (undefined), waits = true, context = world.context } = {}) {
    const tab = await context.newPage();
    tab.setDefaultTimeout(TIMEOUT_MS);
    tab.on("pageerror", (/** @type {Error} */ error) => world.faults.push(String(error)));
    tab.on("console", (/** @type {any} */ message) => message.type() === "error" && world.faults.push(message.text()));
    if (init) await tab.addInitScript(init);
    await tab.goto(url);
    if (waits) await live(tab);
    return tab;
  }
  return world;
}
