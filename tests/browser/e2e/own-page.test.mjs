// The contract of an existing page: three script tags on another origin.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { fakeToken, Site, tags } from "./own-page.mjs";
import { openBrowser, shoot, TIMEOUT_MS, until } from "./page.mjs";

let chromium;
let edge;
let site;
let context;
let faults;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());
beforeEach(async () => {
  edge = await FakeEdge.start();
  site = await Site.start((user) => fakeToken(user));
  context = await chromium.browser.newContext({ viewport: { width: 900, height: 700 } });
  faults = [];
});
afterEach(async () => {
  await context.close();
  await edge.stop();
  await site.stop();
});

const STATUS = '<p id="ws-connection-status"></p>';

/** Opens a page in a tab of the profile. */
async function open(url, init) {
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  if (init) await page.addInitScript(init);
  await page.goto(url);
  return page;
}

const live = (page) => page.locator('#ws-connection-status[data-state="live"]').waitFor();
const picture = (n, more = {}) => ({ documentId: `d${n}`, documentType: "passport_picture", status: "completed", jobId: `j${n}`, ...more });

for (const [kind, attributes] of [["classic scripts", ""], ["modules", 'type="module"']]) {
  test(`three tags from another origin make a page live, as ${kind}`, async () => {
    const page = await open(site.page("/", `${STATUS}${tags(edge.url, attributes)}`));
    await live(page);
    assert.equal(await page.locator("#ws-connection-status").textContent(), "● Live");
    assert.deepEqual(site.tokens, ["u1"]);
    edge.publish("image_processed", picture(1));
    await page.locator('.toast[data-kind="success"]', { hasText: "Passport picture is ready" }).waitFor();
    const box = await page.locator(".toast").boundingBox();
    assert.ok(box.x + box.width > 870 && box.y < 40, `top right: ${JSON.stringify(box)}`);
    assert.deepEqual(faults, []);
  });
}

test("the user comes from the session storage, then from the body, then from the window", async () => {
  const url = site.page("/", `${STATUS}${tags(edge.url)}`, { attributes: 'data-user-id="body" data-token-url="/token"' });
  const none = site.page("/none", `${STATUS}${tags(edge.url)}`, { attributes: 'data-token-url="/token"' });
  const looks = [
    [url, () => sessionStorage.setItem("userId", "one"), "one"],
    [url, () => sessionStorage.setItem("user_id", "two"), "two"],
    [url, () => {}, "body"],
    [none, () => Object.assign(window, { currentUserId: 17 }), "17"],
  ];
  for (const [where, init, user] of looks) {
    const page = await open(where, init);
    await live(page);
    assert.equal(site.tokens.at(-1), user);
    assert.equal(await page.evaluate(() => window.getDashboardWebSocket().state), "connected");
    await page.close();
  }
});

test("the token endpoint may be named by a meta tag or by BelfryConfig, and a page without one gets one sentence", async () => {
  const attributes = 'data-user-id="u1"';
  await live(await open(site.page("/meta", `${STATUS}${tags(edge.url)}`, { attributes, head: '<meta name="belfry-token-url" content="/token">' })));
  await live(await open(site.page("/config", `<script>window.BelfryConfig = { tokenUrl: "/token" }</script>${STATUS}${tags(edge.url)}`, { attributes })));
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  await page.goto(site.page("/none", `${STATUS}${tags(edge.url)}`, { attributes }));
  await until(() => said.length > 0, "a sentence");
  assert.match(said[0], /^Belfry: .*data-token-url/);
  assert.equal(said.length, 1);
  assert.equal(await page.locator("#ws-connection-status").textContent(), "○ Offline");
  assert.equal(await page.evaluate(() => window.getDashboardWebSocket()), null);
});

test("the page's loaders run together and at most once a second; without them it gets an event", async () => {
  const loaders = () => {
    window.calls = [];
    for (const name of ["updateCounts", "loadImages", "loadReports", "loadTranscriptions"]) window[name] = () => window.calls.push([name, performance.now()]);
    window.loadReports = () => {
      window.calls.push(["loadReports", performance.now()]);
      throw new Error("a loader of the page's own");
    };
  };
  const page = await open(site.page("/", `${STATUS}${tags(edge.url)}`), loaders);
  await live(page);
  for (let n = 0; n < 50; n += 1) edge.publish("image_processed", picture(n));
  await until(() => page.evaluate(() => window.calls.length >= 4), "a round");
  for (let n = 50; n < 100; n += 1) edge.publish("image_processed", picture(n));
  await until(() => page.evaluate(() => window.calls.length >= 8), "another round");
  const calls = await page.evaluate(() => window.calls);
  assert.deepEqual(calls.slice(0, 4).map(([name]) => name), ["updateCounts", "loadImages", "loadReports", "loadTranscriptions"]);
  assert.ok(calls.length <= 12, `${calls.length} calls for two bursts`);
  assert.ok(calls[4][1] - calls[0][1] >= 990);

  const bare = await open(site.page("/bare", `${STATUS}${tags(edge.url)}`), () => {
    window.sections = [];
    document.addEventListener("belfry:refresh", (event) => window.sections.push(event.detail.section));
  });
  await live(bare);
  edge.publish("pdf_generated", { reportId: "r1", status: "completed" });
  edge.publish("transcription_complete", { transcriptionId: "t1", status: "completed" });
  await until(() => bare.evaluate(() => window.sections.length >= 2), "two sections");
  assert.deepEqual(await bare.evaluate(() => window.sections), ["reports", "transcriptions"]);
});

test("sections and rows are marked, and badges count", async () => {
  const body = `<section data-belfry-section="images"><b data-belfry-count="images">3</b><ul><li data-belfry-row="d1">one</li><li data-belfry-row="d2">two</li></ul></section><section data-belfry-section="reports"></section>${STATUS}${tags(edge.url)}`;
  const page = await open(site.page("/", body));
  await live(page);
  edge.publish("image_processed", picture(1));
  await page.locator('[data-belfry-row="d1"][data-belfry-changed="image_processed"]').waitFor();
  assert.equal(await page.locator("[data-belfry-changed]").count(), 2, "the row and its section");
  assert.equal(await page.locator("[data-belfry-count]").textContent(), "4");
  edge.publish("image_processing_failed", { documentId: "d2", status: "failed", errorCode: "damaged_file", error: "The file is damaged." });
  await page.locator('.toast[data-kind="error"]', { hasText: "The file is damaged." }).waitFor();
  assert.equal(await page.locator("[data-belfry-count]").textContent(), "4");
});

test("a job's progress is one toast that becomes its end", async () => {
  const page = await open(site.page("/", `${STATUS}${tags(edge.url)}`));
  await live(page);
  edge.publish("image_processing_started", { documentId: "d1", documentType: "passport_picture", status: "pending", jobId: "j1" });
  await page.locator('.toast[data-kind="progress"]', { hasText: "Passport picture" }).waitFor();
  edge.ephemeral("job_progress", { jobId: "j1", percent: 40, stage: "decoding" });
  await page.locator('.toast progress[value="40"]').waitFor();
  edge.publish("image_processed", picture(1));
  await page.locator('.toast[data-kind="success"]').waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
});

test("showToast does what its callers expect", async () => {
  const page = await open(site.page("/", `${STATUS}${tags(edge.url)}`));
  await live(page);
  const evil = '<img src=x onerror="window.pwned=1">';
  await page.evaluate((text) => window.showToast(text, text, "warning", 0), evil);
  const toast = page.locator(".toast");
  assert.equal(await toast.getAttribute("data-kind"), "warning");
  assert.ok((await toast.textContent()).includes(evil));
  await toast.click();
  await until(async () => (await toast.count()) === 0, "a click dismisses it");
  // What is under the pointer does not give way.
  await page.mouse.move(1, 700);
  for (let n = 1; n <= 7; n += 1) await page.evaluate((title) => window.showToast(title, "", "info"), `toast ${n}`);
  assert.equal(await toast.count(), 5);
  assert.deepEqual(await page.locator(".toast-title").evaluateAll((all) => all.filter((each) => each.closest(".toast")).map((each) => each.textContent)), ["toast 3", "toast 4", "toast 5", "toast 6", "toast 7"]);
  assert.equal(await page.locator(".toast-more").textContent(), "and 2 more");
  await page.keyboard.press("Escape");
  assert.equal(await toast.count(), 4);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test("300 events at once: five toasts, and everything in the bell's list", async () => {
  const page = await open(site.page("/", `<belfry-bell></belfry-bell><belfry-status></belfry-status>${STATUS}${tags(edge.url)}`));
  await live(page);
  assert.equal(await page.locator("belfry-status .status").textContent(), "● Live");
  for (let n = 0; n < 300; n += 1) edge.publish("image_processed", picture(n));
  await page.locator("belfry-bell .count", { hasText: "99+" }).waitFor();
  await until(() => page.evaluate(() => document.querySelector("belfry-bell").shadowRoot.querySelector(".bell").getAttribute("aria-label") === "Notifications, 300 unread"), "300 unread");
  assert.equal(await page.locator(".toast").count(), 5);
  await page.locator(".toast-more", { hasText: "and 295 more" }).click();
  await page.locator(".panel .notice").nth(99).waitFor({ state: "attached" });
  assert.equal(await page.locator(".panel p").textContent(), "and 200 older");
  await until(() => page.evaluate(() => !/ 300 /.test(document.querySelector("belfry-bell").shadowRoot.querySelector(".bell").getAttribute("aria-label"))), "what is on the screen is read");
  assert.match(await page.locator("belfry-bell .bell").getAttribute("aria-label"), /^Notifications, 29\d unread$/);
});

test("a strict CSP lets it work, and reports nothing", async () => {
  const csp = `default-src 'none'; script-src ${edge.url}js/ 'nonce-n1'; connect-src 'self' ${edge.wsUrl.replace(/\/ws$/, "")}; img-src data:; report-to none`;
  const page = await open(site.page("/", `${STATUS}<script nonce="n1">window.violations = []; addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));</script>${tags(edge.url, 'nonce="n1"')}`, { headers: { "Content-Security-Policy": csp } }));
  await live(page);
  edge.publish("image_processed", picture(1));
  await page.locator(".toast").waitFor();
  assert.notEqual(await page.locator(".toast").evaluate((toast) => getComputedStyle(toast).boxShadow), "none", "it has its look");
  assert.deepEqual(await page.evaluate(() => window.violations), []);
});

test("a reload in a burst of 200 events shows each once", async () => {
  const page = await open(site.page("/", `${STATUS}${tags(edge.url)}`), () => {
    addEventListener("DOMContentLoaded", () => {
      window.getDashboardWebSocket().on("*", ({ documentId }) => {
        sessionStorage.setItem("seen", `${sessionStorage.getItem("seen") ?? ""} ${documentId}`);
      });
    });
  });
  await live(page);
  for (let n = 0; n < 100; n += 1) edge.publish("image_processed", picture(n));
  const reloaded = page.reload();
  for (let n = 100; n < 200; n += 1) edge.publish("image_processed", picture(n));
  await reloaded;
  await live(page);
  const seen = () => page.evaluate(() => (sessionStorage.getItem("seen") ?? "").trim().split(" "));
  await until(async () => (await seen()).at(-1) === "d199", "the last one");
  assert.deepEqual(await seen(), Array.from({ length: 200 }, (_, n) => `d${n}`));
});

test("the status follows the connection: offline, connecting, live, catching up", async () => {
  const page = await open(site.page("/", `${STATUS}${tags(edge.url)}`), () => {
    addEventListener("DOMContentLoaded", () => {
      window.seen = [];
      new MutationObserver(() => window.seen.push(document.querySelector("#ws-connection-status").textContent)).observe(document.querySelector("#ws-connection-status"), { childList: true });
    });
  });
  await live(page);
  edge.cut();
  await until(() => page.evaluate(() => window.seen.slice(-4).join() === "● Live,◐ Connecting,◐ Catching up,● Live"), "the way back");
  edge.send({ type: "degraded", since: new Date().toISOString() });
  await page.locator('[data-state="catching-up"]').waitFor();
  edge.send({ type: "recovered" });
  await live(page);
  await context.setOffline(true);
  edge.cut();
  await page.locator('[data-state="offline"]').waitFor();
  await context.setOffline(false);
  await live(page);
  edge.bye(4003, "forbidden", { reconnect: false });
  await page.locator('[data-state="offline"]').waitFor();
});

test("10,000 events do not make the page grow", async () => {
  const page = await open(site.page("/", `<belfry-bell></belfry-bell>${STATUS}${tags(edge.url)}`));
  await live(page);
  const nodes = () => page.evaluate(() => document.querySelectorAll("*").length + document.querySelector("belfry-toasts").shadowRoot.querySelectorAll("*").length);
  for (let round = 0; round < 10; round += 1) {
    for (let n = 0; n < 1_000; n += 1) edge.publish("image_processed", picture(round * 1_000 + n));
    await until(() => page.evaluate((id) => document.querySelector("belfry-toasts")?.shadowRoot?.textContent !== "" && window.getDashboardWebSocket().position("user") === id, edge.head("user")), `round ${round}`);
  }
  await until(async () => (await page.locator(".toast-leaving").count()) === 0, "what leaves is gone");
  assert.ok((await nodes()) < 150, `${await nodes()} elements`);
});

test("a plain page looks right, by day, by night and on a phone", async () => {
  const body = `<h1>Documents</h1><p><belfry-bell></belfry-bell> <span id="ws-connection-status"></span></p><section data-belfry-section="images"><p>Pictures: <b data-belfry-count="images">3</b></p></section>${tags(edge.url)}`;
  const head = '<meta name="color-scheme" content="light dark">';
  for (const [name, options] of [["light", {}], ["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 390, height: 844 } }], ["rtl", {}]]) {
    const looks = await chromium.browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
    const page = await looks.newPage();
    await page.goto(site.page("/", body, { head }));
    await live(page);
    if (name === "rtl") await page.evaluate(() => (document.documentElement.dir = "rtl"));
    edge.publish("image_processing_started", { documentId: "d9", documentType: "receipt_picture", status: "pending", jobId: `p-${name}` });
    edge.ephemeral("job_progress", { jobId: `p-${name}`, percent: 60, stage: "making the thumbnail" });
    edge.publish("image_processed", picture(`1-${name}`));
    edge.publish("image_processing_failed", { documentId: "d2", documentType: "id_card_picture", status: "failed", errorCode: "damaged_file", error: "The file is damaged." });
    await page.evaluate(() => window.showToast("Storage is nearly full", "Delete what you no longer need.", "warning", 0));
    await page.locator(".toast").nth(3).waitFor();
    await page.locator(".toast progress").waitFor();
    const stack = await page.locator(".toasts").boundingBox();
    if (name === "phone") assert.ok(stack.height <= 844 / 3 + 1, `${stack.height} px high`);
    if (name === "rtl") assert.ok(stack.x < 40);
    await shoot(page, `own-page-${name}`);
    await looks.close();
  }
});
