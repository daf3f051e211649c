// Rows of the page's contract for Firefox and WebKit: the script tags, what they find on
// the page, and what they do to it.

import assert from "node:assert/strict";
import { COUNTS, SECTIONS, SHOWN } from "./contract-events.mjs";
import { click, hold, live, toasts } from "./other-browsers-world.mjs";
import { Site, STATUS, tags } from "./own-page.mjs";
import { until } from "./page.mjs";

/** @param {import("./other-browsers-world.mjs").World} world */
export function pageRows(world) {
  const { check } = world;

  for (const [kind, tag] of [["classic scripts", ""], ["modules", 'type="module"']]) {
    for (const [host, where] of [["another origin", () => ({})], ["the page's own file server", () => ({ from: "/", attributes: `data-token-url="/token" data-ws-url="${world.edge.wsUrl}"` })]]) {
      check(`three tags from ${host} make a page live, as ${kind}`, async () => {
        const tab = await world.open(world.page("/", '<b data-belfry-count="images">3</b><section data-belfry-section="images"></section>', { tag, ...where() }));
        assert.deepEqual(world.site.tokens, [world.edge.user]);
        await world.publish(1);
        await until(async () => (await toasts(tab)).length === 1, "a toast");
        assert.deepEqual(await toasts(tab), ["success: Passport picture is ready: It is ready to view."]);
        assert.deepEqual(await tab.evaluate(() => [document.querySelector("#ws-connection-status").textContent, document.querySelector("b").textContent, document.querySelector("section").dataset.belfryChanged]), ["● Live", "4", "image_processed"]);
        const [right, top, width] = await tab.evaluate(() => {
          const box = document.querySelector("belfry-toasts").shadowRoot.querySelector(".toast").getBoundingClientRect();
          return [box.right, box.top, document.documentElement.clientWidth];
        });
        assert.ok(width - right < 40 && top < 40, `top right: ${right} of ${width}, ${top}`);
      });
    }
  }

  check("the user comes from the session storage, then from the body, then from the window", async () => {
    const body = world.page("/", "", { user: 'data-user-id="body"', head: "<script>if (location.hash) sessionStorage.setItem(location.hash.slice(1), location.hash.slice(1));</script>" });
    const none = world.page("/none", "<script>window.currentUserId = 17</script>", { user: "" });
    const blank = world.site.page("/blank", "");
    for (const [url, user] of [[`${body}#userId`, "userId"], [`${body}#user_id`, "user_id"], [body, "body"], [none, "17"]]) {
      const tab = await world.open(url);
      assert.equal(world.site.tokens.at(-1), user);
      await tab.goto(blank);
      await tab.evaluate(() => sessionStorage.clear());
    }
  });

  check("the token endpoint may be named by a meta tag or by BelfryConfig, and a page without one gets one sentence", async () => {
    const attributes = "";
    await world.open(world.page("/meta", "", { attributes, head: '<meta name="belfry-token-url" content="/token">' }));
    await world.open(world.page("/config", '<script>window.BelfryConfig = { tokenUrl: "/token" }</script>', { attributes }));
    const tab = await world.open(world.page("/none", "", { attributes }), { waits: false });
    await live(tab, "offline");
    const warned = await tab.evaluate(() => window.warned);
    assert.equal(warned.length, 1);
    assert.match(warned[0], /^Belfry: .*data-token-url/);
    assert.equal(await tab.evaluate(() => window.getDashboardWebSocket()), null);
  });

  check("each event type has its default handler: toast, section, row and count", async () => {
    const tab = await world.open(world.page("/", SECTIONS));
    await hold(tab);
    for (const [type, fields, kind, text] of SHOWN) {
      await world.edge.publish(type, fields);
      await until(async () => (await toasts(tab)).some((toast) => toast.startsWith(`${kind}: `) && toast.includes(text)), `${type}: ${kind}, ${text}`);
    }
    const changed = (section, row) => tab.evaluate((selector) => document.querySelector(selector).dataset.belfryChanged ?? null, `[data-belfry-section="${section}"]${row ? ` [data-belfry-row="${row}"]` : ""}`);
    assert.deepEqual([await changed("images", "d1"), await changed("reports", "r1"), await changed("images", "r1")], ["image_processed", "pdf_generated", null]);
    assert.ok(await changed("updates"));
    assert.deepEqual(await tab.evaluate(() => Object.fromEntries([...document.querySelectorAll("[data-belfry-count]")].map((each) => [each.dataset.belfryCount, each.textContent]))), COUNTS);
  });

  check("loaders run together and at most once a second", async () => {
    const head = `<script>window.calls = []; window.at = []; for (const name of ["updateCounts", "loadImages"]) window[name] = () => { calls.push(name); at.push(performance.now()); };</script>`;
    const tab = await world.open(world.page("/", "", { head }));
    const calls = () => tab.evaluate(() => window.calls.length);
    // How many rounds a burst makes depends on how the browser reads it.
    await world.burst(0, 20);
    await until(async () => (await calls()) >= 2, "a round");
    await world.burst(20, 40);
    await until(async () => (await calls()) >= 4, "another round");
    const [names, at] = await tab.evaluate(() => [window.calls, window.at]);
    assert.deepEqual(names.slice(0, 4), ["updateCounts", "loadImages", "updateCounts", "loadImages"]);
    assert.ok(at[2] - at[0] >= 950, `${at[2] - at[0]} ms between two rounds`);
  });

  check("a page without loaders gets an event that names the section", async () => {
    const head = '<script>window.sections = []; document.addEventListener("belfry:refresh", (event) => sections.push(event.detail.section));</script>';
    const tab = await world.open(world.page("/", "", { head }));
    await world.edge.publishAll([["pdf_generated", { reportId: "r1" }], ["transcription_complete", { transcriptionId: "t1" }]]);
    await until(() => tab.evaluate(() => window.sections.length >= 2), "two sections");
    assert.deepEqual((await tab.evaluate(() => window.sections)).slice(0, 2), ["reports", "transcriptions"]);
  });

  check("the status follows the connection: live, connecting, catching up, offline", async () => {
    const tab = await world.plain();
    world.edge.cut();
    await until(() => tab.evaluate(() => window.changes.slice(-4).join() === "● Live,◐ Connecting,◐ Catching up,● Live"), "the way back");
    await tab.evaluate(() => window.getDashboardWebSocket().close());
    await live(tab, "offline");
    assert.equal(await tab.evaluate(() => document.querySelector("#ws-connection-status").textContent), "○ Offline");
    await tab.evaluate(() => void window.getDashboardWebSocket().connect());
    await live(tab);
  });

  check("custom elements show the status, the list and the toasts where the page wants them", async () => {
    const tab = await world.open(world.page("/", "<belfry-toasts></belfry-toasts><belfry-status></belfry-status><belfry-bell></belfry-bell>"));
    const inside = (host, selector) => tab.evaluate((element, inner) => [...document.querySelector(element).shadowRoot.querySelectorAll(inner)].map((each) => each.textContent).join("; "), host, selector);
    assert.equal(await inside("belfry-status", ".status"), "● Live");
    await world.publish(1);
    await until(async () => (await inside("belfry-bell", ".count")) === "1", "one unread");
    assert.equal(await tab.evaluate(() => document.querySelectorAll("belfry-toasts").length), 1, "the page's own element");
    await click(tab, "belfry-bell", ".bell");
    await until(async () => (await inside("belfry-bell", ".panel .notice")).includes("Passport picture is ready"), "the list");
    await until(() => tab.evaluate(() => document.querySelector("belfry-bell").shadowRoot.querySelector(".count").hidden), "what is on the screen is read");
  });

  check("a page that the edge does not let in says so once, with the setting, and keeps working", async () => {
    const stranger = await Site.start((user) => world.edge.sign(user));
    const warned = "<script>window.warned = []; console.warn = (...all) => warned.push(all.join(' '));</script>";
    const tab = await world.open(stranger.page("/", `${STATUS}${tags(world.edge.url)}`, { head: warned }), { waits: false });
    await until(() => tab.evaluate(() => window.warned.length > 0), "a sentence");
    await tab.evaluate(() => void window.getDashboardWebSocket().reconnect());
    await until(() => world.edge.belfry.log().includes(stranger.origin), "a line in the log");
    await tab.evaluate(() => void window.showToast("still", "works"));
    assert.ok((await toasts(tab)).includes("info: still: works"));
    const sentences = await tab.evaluate(() => window.warned);
    assert.equal(sentences.length, 1, sentences.join("\n"));
    assert.ok(sentences[0].startsWith("Belfry: ") && sentences[0].includes(`--origins ${stranger.origin}`), sentences[0]);
    await tab.goto("about:blank");
    await stranger.stop();
  });
}
