// The contract of an existing page against the real binary: its script tags, what they
// find on the page, and what they do to it. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { test } from "node:test";
import { COUNTS, SECTIONS, SHOWN } from "./contract-events.mjs";
import { picture, Site, tags } from "./own-page.mjs";
import { live, ownPageWorld } from "./own-page-world.mjs";
import { shoot, until } from "./page.mjs";

const world = ownPageWorld();

for (const [kind, tag] of [["classic scripts", ""], ["modules", 'type="module"']]) {
  for (const [host, pathOf] of [
    ["the edge, another origin", () => ({})],
    ["the page's own file server", () => ({ from: "/", attributes: `data-token-url="/token" data-ws-url="${world.edge.wsUrl}"` })],
    ["a file server of another origin", (other) => ({ from: `${other.origin}/`, attributes: `data-token-url="/token" data-ws-url="${world.edge.wsUrl}"` })],
  ]) {
    test(`three tags make a page live: ${kind} from ${host}`, async () => {
      const other = await Site.start(() => "");
      const page = await world.open(world.page("/", "", { tag, ...pathOf(other) }));
      assert.equal(await page.locator("#ws-connection-status").textContent(), "● Live");
      assert.deepEqual(world.site.tokens, [world.edge.user]);
      await world.edge.publish("image_processed", picture(1));
      await page.locator('.toast[data-kind="success"]', { hasText: "Passport picture is ready" }).waitFor();
      const box = await page.locator(".toast").boundingBox();
      assert.ok(box && box.x + box.width > 870 && box.y < 40, `top right: ${JSON.stringify(box)}`);
      assert.deepEqual(world.faults, []);
      await other.stop();
    });
  }
}

test("the user comes from the session storage, then from the body, then from the window; the token says who it is", async () => {
  const both = world.page("/", "", { user: 'data-user-id="body"' });
  const none = world.page("/none", "", { user: "" });
  const looks = [
    [both, () => { sessionStorage.setItem("userId", "one"); sessionStorage.setItem("user_id", "two"); Object.assign(window, { currentUserId: 17 }); }, "one"],
    [both, () => sessionStorage.setItem("user_id", "two"), "two"],
    [both, () => Object.assign(window, { currentUserId: 17 }), "body"],
    [none, () => Object.assign(window, { currentUserId: 17 }), "17"],
  ];
  for (const [url, init, user] of looks) {
    const page = await world.open(url, { init });
    assert.equal(world.site.tokens.at(-1), user);
    assert.equal(await page.evaluate(() => window.getDashboardWebSocket().state), "connected");
    await page.close();
  }
});

test("the token endpoint may be named by a meta tag or by BelfryConfig, and a page without one gets one sentence", async () => {
  const attributes = "";
  await world.open(world.page("/meta", "", { attributes, head: '<meta name="belfry-token-url" content="/token">' }));
  await world.open(world.page("/config", '<script>window.BelfryConfig = { tokenUrl: "/token" }</script>', { attributes }));
  const page = await world.context.newPage();
  const lines = [];
  page.on("console", (message) => lines.push(message.text()));
  await page.goto(world.page("/none", "", { attributes }));
  await until(() => lines.length > 0, "a sentence");
  assert.match(lines[0], /^Belfry: .*data-token-url/);
  assert.equal(lines.length, 1);
  assert.equal(await page.locator("#ws-connection-status").textContent(), "○ Offline");
  assert.equal(await page.evaluate(() => window.getDashboardWebSocket()), null);
  // The third tag alone: the sentence names the one that is missing.
  await page.goto(world.site.page("/alone", tags(world.edge.url).split("\n")[2]));
  await until(() => lines.length > 1, "another sentence");
  assert.match(lines[1], /^Belfry: websocket-client\.js is not loaded/);
});

test("each event type has its default handler: toast, section, row and count", async () => {
  const page = await world.open(world.page("/", SECTIONS));
  for (const [type, fields, kind, text] of SHOWN) {
    await world.edge.publish(type, fields);
    await page.locator(`.toast[data-kind="${kind}"]`, { hasText: text }).waitFor();
    await page.mouse.move(880, 60);
  }
  for (const [section, row, type] of [["images", "d1", "image_processed"], ["reports", "r1", "pdf_generated"]]) {
    assert.equal(await page.locator(`[data-belfry-section="${section}"] [data-belfry-row="${row}"]`).getAttribute("data-belfry-changed"), type);
  }
  assert.equal(await page.locator('[data-belfry-section="images"] [data-belfry-row="r1"]').getAttribute("data-belfry-changed"), null);
  assert.ok(await page.locator('[data-belfry-section="updates"]').getAttribute("data-belfry-changed"));
  const counts = Object.fromEntries(await page.locator("[data-belfry-count]").evaluateAll((all) => all.map((each) => [each.dataset.belfryCount, each.textContent])));
  assert.deepEqual(counts, COUNTS);
});

test("the page's loaders run together and at most once a second; one that throws stops none", async () => {
  const init = () => {
    window.calls = [];
    for (const name of ["updateCounts", "loadImages", "loadReports", "loadTranscriptions"]) window[name] = () => window.calls.push([name, performance.now()]);
    window.loadReports = () => {
      window.calls.push(["loadReports", performance.now()]);
      throw new Error("a loader of the page's own");
    };
  };
  const page = await world.open(world.page("/"), { init });
  const burst = (from) => world.edge.publishAll(Array.from({ length: 50 }, (_, n) => ["image_processed", picture(from + n)]));
  await burst(0);
  await until(() => page.evaluate(() => window.calls.length >= 4), "a round");
  await burst(50);
  await until(() => page.evaluate(() => window.calls.length >= 8), "another round");
  const calls = await page.evaluate(() => window.calls);
  assert.deepEqual(calls.slice(0, 4).map(([name]) => name), ["updateCounts", "loadImages", "loadReports", "loadTranscriptions"]);
  assert.ok(calls.length <= 12, `${calls.length} calls for two bursts`);
  assert.ok(calls[4][1] - calls[0][1] >= 990);
});

test("a page without loaders gets an event that names the section", async () => {
  const init = () => {
    window.sections = [];
    document.addEventListener("belfry:refresh", (event) => window.sections.push(event.detail.section));
  };
  const page = await world.open(world.page("/"), { init });
  await world.edge.publish("pdf_generated", { reportId: "r1" });
  await world.edge.publish("transcription_complete", { transcriptionId: "t1" });
  await until(() => page.evaluate(() => window.sections.length >= 2), "two sections");
  assert.deepEqual(await page.evaluate(() => window.sections), ["reports", "transcriptions"]);
});

test("a job's progress is one toast that becomes its end", async () => {
  const page = await world.plain();
  await world.edge.publish("image_processing_started", picture(1));
  await page.locator('.toast[data-kind="progress"]', { hasText: "Passport picture" }).waitFor();
  await world.edge.publish("job_progress", { jobId: "j1", percent: 40, stage: "decoding" });
  await page.locator('.toast progress[value="40"]').waitFor();
  await world.edge.publish("image_processed", picture(1));
  await page.locator('.toast[data-kind="success"]').waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
});

test("the status follows the connection: live, connecting, catching up, offline", async () => {
  const init = () => {
    addEventListener("DOMContentLoaded", () => {
      window.seen = [];
      new MutationObserver(() => window.seen.push(document.querySelector("#ws-connection-status").textContent)).observe(document.querySelector("#ws-connection-status"), { childList: true });
    });
  };
  const page = await world.open(world.page("/"), { init });
  world.edge.cut();
  await until(() => page.evaluate(() => window.seen.slice(-4).join() === "● Live,◐ Connecting,◐ Catching up,● Live"), "the way back");
  await page.evaluate(() => window.getDashboardWebSocket().close());
  await page.locator('#ws-connection-status[data-state="offline"]').waitFor();
  assert.equal(await page.locator("#ws-connection-status").textContent(), "○ Offline");
  await page.evaluate(() => window.getDashboardWebSocket().connect());
  await live(page);
});

test("custom elements show the status, the list and the toasts where the page wants them", async () => {
  const page = await world.open(world.page("/", '<belfry-toasts></belfry-toasts><belfry-status></belfry-status><belfry-bell></belfry-bell>'));
  assert.equal(await page.locator("belfry-status .status").textContent(), "● Live");
  await world.edge.publish("image_processed", picture(1));
  await page.locator("belfry-bell .count", { hasText: "1" }).waitFor();
  assert.equal(await page.locator("belfry-toasts").count(), 1, "the page's own element");
  assert.equal(await page.locator("belfry-toasts .toast").count(), 1);
  await page.locator("belfry-bell .bell").click();
  await page.locator(".panel .notice", { hasText: "Passport picture is ready" }).waitFor();
  await until(async () => page.locator("belfry-bell .count").isHidden(), "what is on the screen is read");
});

test("a page that the edge does not let in says so once, with the setting, and keeps working", async () => {
  const stranger = await Site.start(() => world.edge.sign("u1"));
  const page = await world.context.newPage();
  const lines = [];
  page.on("console", (message) => message.type() === "warning" && lines.push(message.text()));
  await page.goto(stranger.page("/", `<p id="ws-connection-status"></p>${tags(world.edge.url)}`));
  await until(() => lines.length > 0, "a sentence");
  assert.match(lines[0], /^Belfry: /);
  assert.ok(lines[0].includes(`--origins ${stranger.origin}`), lines[0]);
  await page.evaluate(() => window.showToast("still", "works"));
  await page.locator(".toast", { hasText: "works" }).waitFor();
  await page.evaluate(() => window.getDashboardWebSocket().reconnect());
  await until(async () => world.edge.belfry.log().includes(stranger.origin), "a line in the log");
  assert.equal(lines.length, 1, "one sentence, however often it tries");
  await stranger.stop();
});

test("a plain page looks right, by day, by night, on a phone and from right to left", async () => {
  const body = '<h1>Documents</h1><p><belfry-bell></belfry-bell> <span>Account</span></p><section data-belfry-section="images"><p>Pictures: <b data-belfry-count="images">3</b></p></section>';
  const url = world.page("/", body, { head: '<meta name="color-scheme" content="light dark">' });
  for (const [name, options] of [["light", {}], ["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 390, height: 844 } }], ["rtl", {}]]) {
    const context = await world.chromium.browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
    const page = await world.open(url, { context });
    if (name === "rtl") await page.evaluate(() => (document.documentElement.dir = "rtl"));
    await world.edge.publish("image_processing_started", { ...picture(9), documentType: "receipt_picture", jobId: `p-${name}` });
    await world.edge.publish("job_progress", { jobId: `p-${name}`, percent: 60, stage: "making the thumbnail" });
    await world.edge.publish("image_processed", picture(`1-${name}`));
    await world.edge.publish("image_processing_failed", { documentId: "d2", documentType: "id_card_picture", jobId: `f-${name}`, error: "The file is damaged." });
    await page.evaluate(() => window.showToast("Storage is nearly full", "Delete what you no longer need.", "warning", 0));
    await page.locator(".toast").nth(3).waitFor();
    await page.locator(".toast progress").waitFor();
    const stack = await page.locator(".toasts").boundingBox();
    if (name === "phone") assert.ok(stack && stack.height <= 844 / 3 + 1, `${stack?.height} px high`);
    if (name === "rtl") assert.ok(stack && stack.x < 40);
    const background = await page.locator(".toast").first().evaluate((toast) => getComputedStyle(toast).backgroundColor.match(/\d+/g)?.map(Number)[0] ?? 0);
    assert.equal(background < 128, name === "dark", `${name}: ${background}`);
    await shoot(page, `own-page-${name}`);
    await context.close();
  }
});
