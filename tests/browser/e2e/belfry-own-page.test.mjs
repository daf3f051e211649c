// An existing page on another origin against the real binary: three tags, tokens signed
// with the users' key, events published by the command line.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { startBelfry } from "./binary.mjs";
import { Site, tags } from "./own-page.mjs";
import { openBrowser, TIMEOUT_MS, until } from "./page.mjs";

const run = promisify(execFile);

let chromium;
let belfry;
let site;
let context;

before(async () => {
  chromium = await openBrowser();
  site = await Site.start(async (user) => (await command("token", "user", user, "--data-dir", belfry.dataDir)).trim());
  belfry = await startBelfry(["--origins", site.origin]);
  context = await chromium.browser.newContext();
});
after(async () => {
  await chromium.browser.close();
  await belfry?.stop();
  await site.stop();
});

async function command(...args) {
  return (await run(process.env.BELFRY_BIN ?? "", args, { timeout: TIMEOUT_MS })).stdout;
}

const publish = (...args) => command("publish", ...args, "--user", "u1", "--data-dir", belfry.dataDir, "--notifier-url", `http://${belfry.addresses.grpc}`);

async function open(path = "/", init = () => {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.addInitScript(init);
  await page.goto(site.page(path, `<b data-belfry-count="images">0</b><p id="ws-connection-status"></p>${tags(new URL("/", belfry.addresses.dashboard).href)}`));
  await page.locator('#ws-connection-status[data-state="live"]').waitFor();
  return page;
}

test("three tags on another origin: a job's toast, its end and its count, in two tabs", async () => {
  const page = await open();
  const second = await open("/second");
  assert.deepEqual(site.tokens, ["u1"], "one token for both tabs");
  await publish("image-processing-started", "--document-id", "d1", "--document-type", "passport_picture", "--job", "j1");
  await Promise.any([page, second].map((tab) => tab.locator('.toast[data-kind="progress"]', { hasText: "Passport picture" }).waitFor()));
  await publish("image-processed", "--document-id", "d1", "--document-type", "passport_picture", "--job", "j1");
  for (const tab of [page, second]) await until(async () => (await tab.locator("[data-belfry-count]").textContent()) === "1", "the count in each tab");
  await second.close();
  await publish("status", "--update-type", "sync", "--resource", "mail", "--status", "done");
  await page.locator(".toast", { hasText: "Mail: done" }).waitFor();
});

test("an edge that is refused by its origin list leaves the page offline, not broken", async () => {
  const stranger = await Site.start(() => "");
  const page = await context.newPage();
  await page.goto(stranger.page("/", `<p id="ws-connection-status"></p>${tags(new URL("/", belfry.addresses.dashboard).href)}`));
  await page.locator('#ws-connection-status[data-state="connecting"]').waitFor();
  await page.evaluate(() => window.showToast("still", "works"));
  await page.locator(".toast", { hasText: "works" }).waitFor();
  await page.close();
  await stranger.stop();
});
