// The contract of an existing page in Firefox and WebKit: what the own-page and tabs
// suites show in Chromium, row by row. A fake edge: it is the browser that differs.

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
    const check = (title, run) => test(title, async (t) => (browser ? run(t) : t.skip(`${name} is not installed`)));

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

    check("the user comes from the session storage, then from the body, then from the window", async () => {
      const body = site.page("/", `${STATUS}${tags(edge.url)}`, { attributes: 'data-user-id="body" data-token-url="/token"', head: "<script>if (location.hash) sessionStorage.setItem(location.hash.slice(1), location.hash.slice(1));</script>" });
      const none = site.page("/none", `<script>window.currentUserId = 17</script>${STATUS}${tags(edge.url)}`, { attributes: 'data-token-url="/token"' });
      const blank = site.page("/blank", "");
      for (const [url, user] of [[`${body}#userId`, "userId"], [`${body}#user_id`, "user_id"], [body, "body"], [none, "17"]]) {
        const tab = await open(url);
        assert.equal(site.tokens.at(-1), user);
        await tab.goto(blank);
        await tab.evaluate(() => sessionStorage.clear());
      }
    });

    check("text in every field stays text", async () => {
      const tab = await open(site.page("/", `<belfry-bell></belfry-bell>${STATUS}${tags(edge.url)}`));
      const evil = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
      const fields = { documentId: evil, documentType: evil, reportId: evil, title: evil, transcriptionId: evil, text: evil, language: evil, updateType: evil, resource: evil, status: evil, error: evil, errorCode: evil, name: evil, data: { message: evil, [evil]: evil }, signedUrl: "javascript:window.pwned=1" };
      const types = ["image_processed", "image_processing_failed", "pdf_generated", "pdf_generation_failed", "transcription_complete", "transcription_failed", "status_update", "custom"];
      for (const [n, type] of types.entries()) edge.publish(type, { ...fields, jobId: `${evil}${n}` });
      await until(async () => (await toasts(tab)).length === 5, "toasts");
      await tab.evaluate(() => document.querySelector("belfry-bell").shadowRoot.querySelector(".bell").click());
      const inside = await tab.evaluate(() => [...document.querySelectorAll("belfry-toasts, belfry-bell")].flatMap((host) => [...host.shadowRoot.querySelectorAll("img, script, a, iframe")]).length);
      assert.deepEqual([inside, await tab.evaluate(() => window.pwned ?? null)], [0, null]);
    });

    check("from right to left they are on the left, and on a phone they take a third of the height", async () => {
      const tab = await open(site.page("/", `${STATUS}${tags(edge.url)}`));
      await tab.evaluate(() => (document.documentElement.dir = "rtl"));
      await tab.evaluate(() => [1, 2, 3, 4, 5].forEach((n) => window.showToast(`toast ${n}`, "a text that takes more than one line on a narrow screen", "info", 0)));
      const box = () => tab.evaluate(() => {
        const { left, height } = document.querySelector("belfry-toasts").shadowRoot.querySelector(".toasts").getBoundingClientRect();
        return [left, height, innerHeight, innerWidth];
      });
      const [left] = await box();
      assert.ok(left < 40, `${left} px from the left`);
      await tab.resize(390, 844);
      const [, height, high, wide] = await until(async () => {
        const now = await box();
        return now[3] <= 600 && now;
      }, "a narrow page");
      assert.ok(height <= high / 3 + 1, `${height} of ${high} px high, ${wide} px wide`);
      await tab.resize(1_024, 768);
    });

    check("a page that one comes back to is live, with what was missed", async (t) => {
      const tab = await open(site.page("/", `${RECORDER}${STATUS}<script nonce="n1">addEventListener("pageshow", (event) => (window.persisted = event.persisted));</script>${tags(edge.url)}`));
      await tab.goto(site.page("/away", "elsewhere"));
      await until(() => edge.sessions === 0, "no session");
      picture(1);
      await tab.back();
      await until(async () => (await tab.evaluate(() => window.seen?.at(-1) ?? "").catch(() => "")) === "d1", "what was missed");
      t.diagnostic(`from the back/forward cache: ${await tab.evaluate(() => window.persisted)}`);
      assert.deepEqual(await tab.evaluate(() => window.seen), ["d1"]);
    });

    check("300 events at once: five toasts, the rest in the list", async () => {
      const tab = await open(site.page("/", `<belfry-bell></belfry-bell>${RECORDER}${STATUS}${tags(edge.url)}`));
      for (let n = 0; n < 300; n += 1) picture(n);
      const label = () => tab.evaluate(() => document.querySelector("belfry-bell").shadowRoot.querySelector(".bell").getAttribute("aria-label"));
      await until(async () => (await label()) === "Notifications, 300 unread", "300 unread");
      assert.equal((await toasts(tab)).length, 5);
      assert.equal((await tab.evaluate(() => window.seen)).length, 300);
    });

    // Fewer than Chromium's 10,000: what grows with events shows here as well, and WebKit
    // draws in software, some 20 events a second on a busy machine.
    check("300 events leave no more elements than 100", async () => {
      const tab = await open(site.page("/", `<belfry-bell></belfry-bell>${STATUS}${tags(edge.url)}`));
      await tab.evaluate(() => void window.getDashboardWebSocket().on("*", ({ documentId }) => (window.last = documentId)));
      const elements = () => tab.evaluate(() => [document, ...[...document.querySelectorAll("belfry-toasts, belfry-bell")].map((host) => host.shadowRoot)].reduce((sum, root) => sum + root.querySelectorAll("*").length, 0));
      const counts = [];
      for (const upto of [100, 200, 300]) {
        for (let n = upto - 100; n < upto; n += 1) picture(n);
        await until(async () => (await tab.evaluate(() => window.last)) === `d${upto - 1}`, `${upto} events`);
        await until(async () => (await tab.evaluate(() => document.querySelector("belfry-toasts").shadowRoot.querySelectorAll(".toast-leaving").length)) === 0, "what leaves is gone");
        counts.push(await elements());
      }
      assert.ok(counts[2] <= counts[0] + 10, String(counts));
    });
  });
}
