// What a browser does to the tabs of one person, against the real binary: it hides,
// freezes and resumes them, and one of them hangs. Real visibility, over the DevTools
// protocol: Playwright shows every page. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import puppeteer from "puppeteer-core";
import { executable } from "../chromium.mjs";
import { picture, Site, STATUS, tags } from "./own-page.mjs";
import { until } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

let browser;
let edge;
let site;
let url;
let pages = [];

before(async () => {
  site = await Site.start((user) => edge.sign(user));
  edge = await RealEdge.start([site.origin]);
  browser = await puppeteer.launch({ executablePath: executable(), headless: true, args: ["--no-sandbox", "--disable-gpu"] });
});
after(async () => {
  await browser?.close();
  await edge?.stop();
  await site?.stop();
});
beforeEach(async () => {
  await until(() => edge.sessions === 0, "no session of another test");
  edge.network.upgrades = 0;
  url = site.page("/", `<belfry-bell></belfry-bell>${STATUS}${tags(edge.url)}`, { attributes: `data-user-id="${edge.nextUser()}" data-token-url="/token"` });
});
afterEach(async () => {
  for (const page of pages.splice(0)) await page.close();
});

/** Opens a tab in front of the others. */
async function open() {
  const page = await browser.newPage();
  pages.push(page);
  await page.evaluateOnNewDocument(() => {
    window.seen = [];
    addEventListener("DOMContentLoaded", () => window.getDashboardWebSocket()?.on("*", ({ documentId }) => window.seen.push(documentId)));
  });
  await page.goto(url);
  await page.waitForSelector('#ws-connection-status[data-state="live"]');
  return page;
}

const visibility = (page) => page.evaluate(() => document.visibilityState);
const seen = (page) => page.evaluate(() => window.seen);
const toasts = (page) => page.evaluate(() => document.querySelector("belfry-toasts")?.shadowRoot.querySelectorAll(".toast").length ?? 0);
const publish = (n) => edge.publish("image_processed", picture(n));

test("of five tabs the one in front shows the toast, and a hidden one does not repeat it", async () => {
  const all = [];
  for (let n = 0; n < 5; n += 1) all.push(await open());
  assert.equal(edge.sessions, 1);
  assert.deepEqual(await Promise.all(all.map(visibility)), ["hidden", "hidden", "hidden", "hidden", "visible"]);
  await publish(1);
  await until(async () => (await Promise.all(all.map(seen))).every((ids) => ids.length === 1), "the event in each tab");
  await until(async () => (await toasts(all[4])) === 1, "a toast in front");
  assert.deepEqual(await Promise.all(all.map(toasts)), [0, 0, 0, 0, 1]);
  await all[1].bringToFront();
  await until(async () => (await visibility(all[1])) === "visible", "another tab in front");
  await publish(2);
  await until(async () => (await toasts(all[1])) === 1, "the second toast");
  assert.deepEqual(await seen(all[1]), ["d1", "d2"]);
});

test("a leader that is hidden goes on leading: its tabs receive what comes", async () => {
  const leader = await open();
  const other = await open();
  assert.equal(await visibility(leader), "hidden");
  await publish(1);
  await until(async () => (await seen(other)).length === 1, "the event in front");
  // More answers than a leader that hangs could owe.
  await other.evaluate((name) => {
    window.answers = 0;
    new BroadcastChannel(name).onmessage = ({ data }) => (window.answers += Number(data.kind === "lead"));
  }, `belfry ${edge.wsUrl} ${edge.user}`);
  await until(async () => (await other.evaluate(() => window.answers)) >= 4, "four answers to probes");
  assert.equal(edge.network.upgrades, 1, "nobody took the lead from it");
});

test("a leader that the browser freezes gives its place away, and comes back as one of the others", async () => {
  const leader = await open();
  const other = await open();
  const devtools = await leader.createCDPSession();
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await until(() => edge.network.upgrades === 2, "another leader");
  await publish(1);
  await until(async () => (await seen(other)).length === 1, "the event in front");
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await until(async () => (await seen(leader)).at(-1) === "d1", "what it missed");
  await publish(2);
  for (const page of [leader, other]) await until(async () => (await seen(page)).length === 2, "the next one");
  assert.equal(edge.sessions, 1);
});

test("a leader that hangs with the lock is replaced after 2 s, and follows once it is back", async () => {
  const leader = await open();
  const other = await open();
  // A synchronous request blocks the tab until the site answers it.
  const hang = site.hold();
  await leader.evaluate(() => void setTimeout(() => {
    const request = new XMLHttpRequest();
    request.open("GET", "/held", false);
    request.send();
  }));
  await hang.requested;
  await publish(1);
  await until(async () => (await seen(other)).length === 1, "the event in front, from a leader of its own");
  assert.equal(edge.network.upgrades, 2);
  hang.release();
  await until(async () => (await seen(leader)).length === 1, "the event in the tab that hung");
  await publish(2);
  for (const page of [leader, other]) {
    await until(async () => (await seen(page)).length === 2, "the next one");
    assert.deepEqual(await seen(page), ["d1", "d2"]);
  }
  await until(() => edge.sessions === 1, "one session");
});
