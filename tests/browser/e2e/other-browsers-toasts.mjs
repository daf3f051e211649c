// Rows of the page's contract for Firefox and WebKit: toasts, and one person's tabs and
// devices.

import assert from "node:assert/strict";
import { WebSocket } from "ws";
import { EVIL, EVIL_EVENTS } from "./contract-events.mjs";
import { click, live, seen, toasts } from "./other-browsers-world.mjs";
import { until } from "./page.mjs";

const BELL = "<belfry-bell></belfry-bell>";
const KINDS = ["success", "error", "warning", "info", "progress"];

/** A device without a page: it has the user's token and notes what it receives. */
async function device(edge) {
  const socket = new WebSocket(edge.wsUrl);
  const frames = [];
  socket.on("message", (data) => frames.push(JSON.parse(String(data))));
  socket.on("open", () => socket.send(JSON.stringify({ type: "connect", token: edge.sign(edge.user) })));
  await until(() => frames.some(({ type }) => type === "connected"), "the device is connected");
  return { frames, socket };
}

/** @param {import("./other-browsers-world.mjs").World} world */
export function toastRows(world) {
  const { check } = world;
  const inside = (tab, host, selector) => tab.evaluate((element, inner) => [...(document.querySelector(element)?.shadowRoot?.querySelectorAll(inner) ?? [])].map((each) => each.textContent), host, selector);
  const label = (tab) => tab.evaluate(() => document.querySelector("belfry-bell").shadowRoot.querySelector(".bell").getAttribute("aria-label"));

  check("a toast of each kind stays 5 s, comes and goes with an animation, and 0 ms keeps it", async () => {
    const tab = await world.plain();
    const [kinds, animation] = await tab.evaluate((all) => {
      const at = performance.now();
      window.stayed = [];
      for (const kind of all) window.showToast(`a ${kind}`, "text", kind);
      const { shadowRoot } = document.querySelector("belfry-toasts");
      const shown = [...shadowRoot.querySelectorAll(".toast")];
      new MutationObserver((changes) => {
        for (const { target } of changes) if (target.className === "toast-leaving") window.stayed.push(performance.now() - at);
      }).observe(shadowRoot, { attributes: true, attributeFilter: ["class"], subtree: true });
      return [shown.map((toast) => toast.dataset.kind), shown.map((toast) => getComputedStyle(toast).animationName)];
    }, KINDS);
    assert.deepEqual(kinds, KINDS);
    assert.ok(animation.every((name) => name !== "none"), String(animation));
    const stayed = await until(() => tab.evaluate(() => window.stayed.length === 5 && window.stayed), "all five go");
    assert.ok(Math.min(...stayed) >= 4_900, String(stayed));
    await tab.evaluate(() => ["short", "for good"].forEach((title) => window.showToast(title, "", "info", title === "short" ? 100 : 0)));
    await until(async () => (await toasts(tab)).join() === "info: for good: ", "what stays");
  });

  check("a toast stays under the pointer, and goes after it", async () => {
    const tab = await world.plain();
    const point = (type) => tab.evaluate((name) => void document.querySelector("belfry-toasts").shadowRoot.querySelector(".toasts").dispatchEvent(new PointerEvent(name)), type);
    await tab.evaluate(() => {
      window.showToast("first", "", "info", 0);
      document.querySelector("belfry-toasts").shadowRoot.querySelector(".toasts").dispatchEvent(new PointerEvent("pointerover"));
      window.showToast("second", "", "info", 200);
      setTimeout(() => (window.later = true), 600);
    });
    await until(() => tab.evaluate(() => window.later ?? false), "more time than it has");
    assert.deepEqual(await toasts(tab), ["info: first: ", "info: second: "]);
    await point("pointerleave");
    await until(async () => (await toasts(tab)).join() === "info: first: ", "it goes");
  });

  check("progress becomes the end, the sixth toast takes the oldest's place and leaves it to the list, Escape closes", async () => {
    const tab = await world.open(world.page("/", BELL));
    await world.edge.publish("image_processing_started", { documentId: "d1", documentType: "passport_picture", jobId: "j1" });
    await until(async () => (await toasts(tab))[0]?.startsWith("progress"), "progress");
    await world.publish(1);
    await until(async () => (await toasts(tab))[0]?.startsWith("success"), "its end");
    await tab.evaluate(() => [1, 2, 3, 4, 5].forEach((n) => window.showToast(`toast ${n}`, "<b>text</b>", "warning", 0)));
    assert.deepEqual(await toasts(tab), [1, 2, 3, 4, 5].map((n) => `warning: toast ${n}: <b>text</b>`));
    await tab.evaluate(() => void document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })));
    assert.equal((await toasts(tab)).length, 4);
    await click(tab, "belfry-bell", ".bell");
    assert.deepEqual(await inside(tab, "belfry-bell", ".panel .notice b"), ["toast 5", "toast 4", "toast 3", "toast 2", "toast 1", "Passport picture is ready"]);
  });

  check("\"and n more\" brings back what gave way on a page without a bell", async () => {
    const tab = await world.plain();
    await tab.evaluate(() => [1, 2, 3, 4, 5, 6, 7].forEach((n) => window.showToast(`toast ${n}`, "", "info", 0)));
    assert.deepEqual(await inside(tab, "belfry-toasts", ".toast-more"), ["and 2 more"]);
    await click(tab, "belfry-toasts", ".toast-more");
    const titles = (await toasts(tab)).join();
    assert.ok(titles.includes("toast 1:") && titles.includes("toast 2:"), titles);
  });

  check("a click reads, closing dismisses, for the service to see and on the person's other devices", async () => {
    const tab = await world.open(world.page("/", BELL));
    const other = await device(world.edge);
    const sent = await world.edge.publishAll([1, 2, 3].map((n) => ["image_processed", { documentId: `d${n}`, documentType: "passport_picture", jobId: `j${n}` }]));
    await until(async () => (await toasts(tab)).length === 3, "three toasts");
    await tab.evaluate(() => document.querySelector("belfry-toasts").shadowRoot.querySelector(".toasts").dispatchEvent(new PointerEvent("pointerover")));
    await click(tab, "belfry-toasts", ".toast .toast-open");
    await click(tab, "belfry-toasts", ".toast .toast-close");
    for (const [n, state] of [[0, "read"], [1, "dismissed"]]) {
      await until(async () => (await world.edge.publisher.receipts(sent[n])).includes(state), `event ${n} is ${state}`);
      await until(() => other.frames.some(({ type, id, reason }) => type === "retract" && id === sent[n] && reason === state), `the other device drops event ${n}`);
    }
    other.socket.send(JSON.stringify({ type: "receipt", receipts: [{ id: sent[2], state: "read" }] }));
    await until(async () => (await toasts(tab)).length === 0, "what was read on the other device goes here");
    assert.equal(await label(tab), "Notifications");
    other.socket.close();
  });

  check("text in every field of every event stays text", async () => {
    const tab = await world.open(world.page("/", BELL));
    await world.edge.publishAll(EVIL_EVENTS);
    await until(async () => (await toasts(tab)).length === 5, "toasts");
    await tab.evaluate((text) => void window.showToast(text, text, text), EVIL);
    await click(tab, "belfry-bell", ".bell");
    assert.ok((await inside(tab, "belfry-bell", ".panel .notice")).join().includes("onerror"));
    const elements = await tab.evaluate(() => [...document.querySelectorAll("belfry-toasts, belfry-bell")].flatMap((host) => [...host.shadowRoot.querySelectorAll("img, script, a, iframe")]).length);
    assert.deepEqual([elements, await tab.evaluate(() => window.pwned ?? null)], [0, null]);
  });

  check("the page's custom properties reach the toasts, its rules do not", async () => {
    const tab = await world.open(world.page("/", "", { head: "<style>:root { --belfry-background: rgb(1, 2, 3); } button { display: none !important; }</style>" }));
    const look = await tab.evaluate(() => {
      window.showToast("one", "text", "info", 0);
      const toast = document.querySelector("belfry-toasts").shadowRoot.querySelector(".toast");
      return [getComputedStyle(toast).backgroundColor, getComputedStyle(toast.querySelector(".toast-close")).display !== "none"];
    });
    assert.deepEqual(look, ["rgb(1, 2, 3)", true]);
  });

  check("from right to left they are on the left, and on a phone they take a third of the height", async () => {
    const tab = await world.plain();
    await tab.evaluate(() => {
      document.documentElement.dir = "rtl";
      for (const n of [1, 2, 3, 4, 5]) window.showToast(`toast ${n}`, "a text that takes more than one line on a narrow screen", "info", 0);
    });
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

  check("five tabs have one connection, one toast and five badges; the next one takes over when the leader goes", async () => {
    const url = world.page("/", `${BELL}<b data-belfry-count="images">0</b>`);
    const tabs = [];
    for (let n = 0; n < 5; n += 1) tabs.push(await world.open(url, { n }));
    assert.equal(world.edge.sessions, 1);
    assert.deepEqual(world.site.tokens, [world.edge.user], "one token");
    const id = await world.publish(1);
    for (const tab of tabs) {
      await until(async () => (await seen(tab)).at(-1) === "d1", "the event in each");
      await until(async () => (await label(tab)) === "Notifications, 1 unread", "a badge in each");
      assert.equal(await tab.evaluate(() => document.querySelector("[data-belfry-count]").textContent), "1");
    }
    await until(async () => (await world.edge.publisher.receipts(id)).includes("displayed"), "displayed");
    const shown = [];
    for (const tab of tabs) shown.push(...(await toasts(tab)));
    assert.ok(shown.length <= 1, `${shown.length} toasts`);
    const { upgrades } = world.edge.network;
    await tabs[0].goto("about:blank");
    await world.publish(2);
    for (const tab of tabs.slice(1)) await until(async () => (await seen(tab)).join() === "d1,d2", "the event after the take-over, once");
    assert.equal(world.edge.network.upgrades, upgrades + 1);
    assert.equal(world.edge.sessions, 1);
    await live(tabs[4]);
  });

  check("300 events at once: five toasts, the rest in the list", async () => {
    const tab = await world.open(world.page("/", BELL));
    await world.burst(0, 300);
    await until(async () => (await label(tab)) === "Notifications, 300 unread", "300 unread");
    assert.equal((await toasts(tab)).length, 5);
    assert.equal((await seen(tab)).length, 300);
  });

  // Fewer than Chromium's 10,000: what grows with events shows here as well, and WebKit
  // draws in software, some 20 events a second on a busy machine.
  check("300 events leave no more elements than 100", async () => {
    const tab = await world.open(world.page("/", BELL));
    const elements = () => tab.evaluate(() => [document, ...[...document.querySelectorAll("belfry-toasts, belfry-bell")].map((host) => host.shadowRoot)].reduce((sum, root) => sum + root.querySelectorAll("*").length, 0));
    const counts = [];
    for (const upto of [100, 200, 300]) {
      await world.burst(upto - 100, upto);
      await until(async () => (await seen(tab)).at(-1) === `d${upto - 1}`, `${upto} events`);
      await until(async () => (await inside(tab, "belfry-toasts", ".toast-leaving")).length === 0, "what leaves is gone");
      counts.push(await elements());
    }
    assert.ok(counts[2] <= counts[0] + 10, String(counts));
  });
}
