// The contract of an existing page in Firefox and WebKit: what own-page.test.mjs and
// tabs.test.mjs show in Chromium, row by row.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { firefox, webkit } from "../browsers.mjs";
import { FakeEdge } from "../fake-edge.mjs";
import { fakeToken, Site, tags } from "./own-page.mjs";
import { until } from "./page.mjs";

const STATUS = '<p id="ws-connection-status"></p>';
const RECORDER = `<script nonce="n1">
  window.seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]");
  window.calls = [];
  window.violations = [];
  addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
  addEventListener("DOMContentLoaded", () => window.getDashboardWebSocket?.()?.on("*", (event) => {
    window.seen.push(event.documentId);
    sessionStorage.setItem("seen", JSON.stringify(window.seen));
  }));
</script>`;

for (const [name, launch] of [["Firefox", firefox], ["WebKit", webkit]]) {
  describe(name, { concurrency: false }, () => {
    let browser;
    let edge;
    let site;
    /** @type {import("../browsers.mjs").Tab[]} */
    let tabs = [];

    before(async () => {
      browser = await launch();
    });
    after(() => browser?.close());
    beforeEach(async () => {
      edge = await FakeEdge.start();
      site = await Site.start((user) => fakeToken(user));
    });
    afterEach(async () => {
      for (const tab of tabs.splice(1)) await tab.close();
      if (tabs[0]) await tabs[0].goto("about:blank");
      await edge.stop();
      await site.stop();
    });

    /** The first tab is kept: a driver ends with its last one. */
    async function open(url, n = 0) {
      tabs[n] ??= await browser.newTab();
      await tabs[n].goto(url);
      await until(() => tabs[n].evaluate(() => document.querySelector("#ws-connection-status")?.dataset.state === "live"), "a live page");
      return tabs[n];
    }

    const picture = (n) => edge.publish("image_processed", { documentId: `d${n}`, documentType: "passport_picture", status: "completed", jobId: `j${n}` });
    const toasts = (tab) => tab.evaluate(() => [...(document.querySelector("belfry-toasts")?.shadowRoot?.querySelectorAll(".toast") ?? [])].map((toast) => `${toast.dataset.kind}: ${toast.querySelector(".toast-title").textContent || toast.querySelector(".toast-open").textContent}`));
    const check = (title, run) => test(title, async (t) => (browser ? run() : t.skip(`${name} is not installed`)));

    for (const [kind, attributes] of [["classic scripts", ""], ["modules", 'type="module"']]) {
      check(`three tags from another origin make a page live, as ${kind}`, async () => {
        const tab = await open(site.page("/", `${STATUS}<b data-belfry-count="images">3</b><section data-belfry-section="images"></section>${tags(edge.url, attributes)}`));
        picture(1);
        await until(async () => (await toasts(tab)).length === 1, "a toast");
        assert.deepEqual(await toasts(tab), ["success: Passport picture is ready"]);
        assert.deepEqual(await tab.evaluate(() => [document.querySelector("#ws-connection-status").textContent, document.querySelector("b").textContent, document.querySelector("section").dataset.belfryChanged]), ["● Live", "4", "image_processed"]);
        const [left, top, width] = await tab.evaluate(() => {
          const box = document.querySelector("belfry-toasts").shadowRoot.querySelector(".toast").getBoundingClientRect();
          return [box.right, box.top, document.documentElement.clientWidth];
        });
        assert.ok(width - left < 40 && top < 40, `top right: ${left} of ${width}, ${top}`);
      });
    }

    check("loaders run together and at most once a second", async () => {
      const head = `<script>window.calls = []; window.at = []; for (const name of ["updateCounts", "loadImages"]) window[name] = () => { calls.push(name); at.push(performance.now()); };</script>`;
      const tab = await open(site.page("/", `${STATUS}${tags(edge.url)}`, { head }));
      const calls = () => tab.evaluate(() => window.calls.length);
      // How many rounds a burst makes depends on how the browser reads it.
      for (let n = 0; n < 20; n += 1) picture(n);
      await until(async () => (await calls()) >= 2, "a round");
      for (let n = 20; n < 40; n += 1) picture(n);
      await until(async () => (await calls()) >= 4, "another round");
      const [names, at] = await tab.evaluate(() => [window.calls, window.at]);
      assert.deepEqual(names.slice(0, 4), ["updateCounts", "loadImages", "updateCounts", "loadImages"]);
      assert.ok(at[2] - at[0] >= 950, `${at[2] - at[0]} ms between two rounds`);
    });

    check("progress becomes the end, the sixth toast takes the oldest's place, Escape closes", async () => {
      const tab = await open(site.page("/", `${STATUS}${tags(edge.url)}`));
      edge.publish("image_processing_started", { documentId: "d1", documentType: "passport_picture", status: "pending", jobId: "j1" });
      await until(async () => (await toasts(tab))[0]?.startsWith("progress"), "progress");
      picture(1);
      await until(async () => (await toasts(tab))[0]?.startsWith("success"), "its end");
      await tab.evaluate(() => [1, 2, 3, 4, 5].forEach((n) => window.showToast(`toast ${n}`, "<b>text</b>", "warning", 0)));
      assert.deepEqual(await toasts(tab), [1, 2, 3, 4, 5].map((n) => `warning: toast ${n}`));
      await tab.evaluate(() => document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })));
      assert.equal((await toasts(tab)).length, 4);
    });

    check("a strict CSP lets it work, and reports nothing", async () => {
      const csp = `default-src 'none'; script-src ${edge.url}js/ 'nonce-n1'; connect-src 'self' ${edge.wsUrl.replace(/\/ws$/, "")} ${edge.wsUrl}; img-src data:`;
      const tab = await open(site.page("/", `${STATUS}${RECORDER}${tags(edge.url, 'nonce="n1"')}`, { headers: { "Content-Security-Policy": csp } }));
      picture(1);
      await until(async () => (await toasts(tab)).length === 1, "a toast");
      const shadow = await tab.evaluate(() => getComputedStyle(document.querySelector("belfry-toasts").shadowRoot.querySelector(".toast")).boxShadow);
      assert.notEqual(shadow, "none");
      assert.deepEqual(await tab.evaluate(() => window.violations), []);
    });

    check("a reload in a burst shows each event once, and a cut connection comes back", async () => {
      const tab = await open(site.page("/", `${RECORDER}${STATUS}${tags(edge.url)}`));
      for (let n = 0; n < 50; n += 1) picture(n);
      const reloaded = tab.reload();
      for (let n = 50; n < 100; n += 1) picture(n);
      await reloaded;
      await until(async () => (await tab.evaluate(() => window.seen)).at(-1) === "d99", "the last one");
      edge.cut();
      picture(100);
      await until(async () => (await tab.evaluate(() => window.seen)).at(-1) === "d100", "one after the cut");
      assert.deepEqual(await tab.evaluate(() => window.seen), Array.from({ length: 101 }, (_, n) => `d${n}`));
    });

    check("two tabs have one connection, and the second takes over when the first goes", async () => {
      const url = site.page("/", `${RECORDER}${STATUS}${tags(edge.url)}`);
      const first = await open(url);
      await first.evaluate(() => sessionStorage.clear());
      const second = await open(url, 1);
      assert.equal(edge.sessions, 1);
      picture(1);
      for (const tab of [first, second]) await until(async () => (await tab.evaluate(() => window.seen)).at(-1) === "d1", "the event in both");
      const at = Date.now();
      await first.goto("about:blank");
      picture(2);
      await until(async () => (await second.evaluate(() => window.seen)).at(-1) === "d2", "the event after the take-over");
      assert.ok(Date.now() - at < 4_000, `${Date.now() - at} ms, the driver's own time included`);
      assert.equal(edge.sessions, 1);
    });
  });
}
