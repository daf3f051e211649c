// What the browser tests share: one Chromium, pages that report their errors, and
// helpers that wait for conditions, never for time.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { launch } from "../chromium.mjs";

const OUT = new URL("../out/", import.meta.url);
/** How long a condition may take, in milliseconds. */
export const TIMEOUT_MS = 60_000;

/** @param {string[]} [args] more arguments of the browser @param {import("playwright-core").LaunchOptions} [options] */
export async function openBrowser(args, options) {
  const browser = await launch(args, options);
  return {
    browser,
    /** A fresh profile with the dashboard in it, connected unless `waits` is false. */
    async dashboard(url, options = {}) {
      const context = await browser.newContext({ viewport: { width: 1180, height: 900 }, ...options.context });
      const page = await context.newPage();
      page.setDefaultTimeout(TIMEOUT_MS);
      const faults = [];
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("console", (message) => {
        if (message.type() === "error" && !/ERR_CONNECTION|WebSocket connection/.test(message.text())) faults.push(message.text());
      });
      await page.goto(url);
      if (options.waits !== false) await state(page, "connected");
      // Gone after a reload, so a test can see it.
      await page.evaluate(() => {
        window.belfryMarker = "the same page";
      });
      return { page, faults, close: () => context.close() };
    },
  };
}

/** @param {import("playwright-core").Page} page @param {string} wanted */
export async function state(page, wanted) {
  await page.locator(`#connection[data-state="${wanted}"]`).waitFor();
}

export async function notReloaded(page) {
  assert.equal(await page.evaluate(() => window.belfryMarker), "the same page");
}

/** A row in its final status, with a thumbnail that the browser could draw. */
export async function rowWithPicture(page, row) {
  await row.and(page.locator('[data-status="completed"]')).waitFor();
  await page.waitForFunction(
    (image) => image instanceof HTMLImageElement && image.complete && image.naturalWidth > 0 && image.src.startsWith("http"),
    await row.locator("img").elementHandle(),
  );
}

/** Waits until `condition` gives something truthy. */
export async function until(condition, what) {
  const giveUpAt = Date.now() + TIMEOUT_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < giveUpAt, `waited ${TIMEOUT_MS} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * From here on the page's clock moves only as the test lets it, and pings are counted
 * where they are sent: without a network none arrives.
 *
 * @param {import("playwright-core").Page} page
 * @returns {Promise<() => Promise<number>>} how many pings were sent since
 */
export async function stopClock(page) {
  const now = await page.evaluate(() => {
    window.pings = 0;
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
      window.pings += Number(data === '{"type":"ping"}');
      return send.call(this, data);
    };
    return Date.now();
  });
  await page.clock.install({ time: now });
  await page.clock.pauseAt(now + 1_000);
  const before = await page.evaluate(() => window.pings);
  return async () => (await page.evaluate(() => window.pings)) - before;
}

/** Waits until every animation has ended that ends, in shadow roots too. @param {import("playwright-core").Page} page */
export function atRest(page) {
  return page.evaluate(() => {
    const roots = [document, ...[...document.querySelectorAll("*")].flatMap(({ shadowRoot }) => shadowRoot ?? [])];
    return Promise.all(roots.flatMap((root) => root.getAnimations()).filter((each) => each.effect?.getTiming().iterations !== Infinity).map((each) => each.finished.catch(() => {})));
  });
}

/** @param {import("playwright-core").Page} page @param {string} name @param {boolean} [fullPage] */
export async function shoot(page, name, fullPage = true) {
  mkdirSync(OUT, { recursive: true });
  await atRest(page);
  await page.screenshot({ path: fileURLToPath(new URL(`${name}.png`, OUT)), fullPage });
}
