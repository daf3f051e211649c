// What a page does at what the real binary cannot be brought to on purpose: an edge
// that has no notifier for a while, and closes that end a connection for good.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { fakeToken, Site, STATUS, tags } from "./own-page.mjs";
import { live } from "./own-page-world.mjs";
import { openBrowser, TIMEOUT_MS, until } from "./page.mjs";

let chromium;
let edge;
let site;
let context;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());
beforeEach(async () => {
  edge = await FakeEdge.start();
  site = await Site.start((user) => fakeToken(user));
  context = await chromium.browser.newContext();
});
afterEach(async () => {
  await context.close();
  await edge.stop();
  await site.stop();
});

async function open() {
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.goto(site.page("/", `${STATUS}${tags(edge.url)}`));
  await live(page);
  return page;
}

test("while the edge has no notifier the status says that it is catching up", async () => {
  const page = await open();
  edge.send({ type: "degraded", since: new Date().toISOString() });
  await page.locator('#ws-connection-status[data-state="catching-up"]').waitFor();
  edge.send({ type: "recovered" });
  await live(page);
});

test("a close that forbids to come back ends it in one sentence, in every tab", async () => {
  const pages = [await open(), await open()];
  edge.bye(4003, "forbidden", { reconnect: false, message: "the credential does not allow this" });
  for (const page of pages) {
    await page.locator('#ws-connection-status[data-state="offline"]').waitFor();
    await page.locator('.toast[data-kind="error"]', { hasText: "the credential does not allow this" }).waitFor();
  }
  assert.equal(edge.connects.length, 1);
});

test("a person with too many connections is offered to go on here, and nothing loops", async () => {
  const page = await open();
  edge.bye(4009, "too_many_connections", { reconnect: false, message: "this user has too many connections, the oldest was closed" });
  const toast = page.locator('.toast[data-kind="warning"]', { hasText: "Use live updates here" });
  await toast.waitFor();
  assert.match((await toast.textContent()) ?? "", /too many connections/);
  assert.equal(await page.evaluate(() => window.getDashboardWebSocket().state), "disconnected");
  assert.equal(edge.connects.length, 1);
  await toast.locator(".toast-open").click();
  await until(() => edge.connects.length === 2, "another connection");
  await live(page);
  assert.equal(await page.locator(".toast").count(), 0);
});
