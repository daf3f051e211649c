// What the dashboard costs: requests and bytes over the wire, cold and warm, as Chromium
// counts them. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startBelfry } from "./binary.mjs";
import { openBrowser, state } from "./page.mjs";

/** Requests of a first visit, data and socket included, and bytes of it. */
const COLD_REQUESTS = 8;
const COLD_BYTES = 60_000;
/** What a page is made of; the rest is data. */
const FILES = new Set(["Document", "Stylesheet", "Script", "Image", "Font", "Manifest", "Other"]);

let belfry;
let chromium;

before(async () => {
  belfry = await startBelfry();
  chromium = await openBrowser();
});
after(async () => {
  await chromium?.browser.close();
  await belfry?.stop();
});

/** Every request of a page that went over the network. */
async function countRequests(page) {
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  const requests = new Map();
  network.on("Network.requestWillBeSent", ({ requestId, request, type }) => {
    if (request.url.startsWith("http")) requests.set(requestId, { url: request.url, method: request.method, type, bytes: 0 });
  });
  network.on("Network.webSocketCreated", ({ requestId, url }) => requests.set(requestId, { url, type: "WebSocket", bytes: 0 }));
  network.on("Network.requestServedFromCache", ({ requestId }) => requests.delete(requestId));
  network.on("Network.responseReceived", ({ requestId, response }) => {
    if (response.fromDiskCache) requests.delete(requestId);
    else if (requests.has(requestId)) Object.assign(requests.get(requestId), { status: response.status, encoding: response.headers["content-encoding"] });
  });
  network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (requests.has(requestId)) requests.get(requestId).bytes = encodedDataLength;
  });
  return requests;
}

test("a first visit takes at most 8 requests and 60 KB, the next one the page alone", async (t) => {
  const context = await chromium.browser.newContext();
  const page = await context.newPage();
  const requests = await countRequests(page);
  const listed = async () => {
    await state(page, "connected");
    await page.waitForLoadState("networkidle");
  };
  await page.goto(belfry.pageOf("weight"));
  await listed();
  // `belfry up` has the processors on a port of their own, which costs preflights.
  const cold = [...requests.values()].filter(({ method }) => method !== "OPTIONS");
  const bytes = cold.reduce((sum, request) => sum + request.bytes, 0);
  t.diagnostic(`cold: ${cold.length} requests, ${bytes} bytes`);
  assert.ok(cold.length <= COLD_REQUESTS, JSON.stringify(cold, null, 1));
  assert.ok(bytes <= COLD_BYTES, JSON.stringify(cold, null, 1));
  for (const { url, encoding, type } of cold) if (["Script", "Stylesheet", "Document"].includes(type)) assert.match(encoding ?? "none", /^(br|gzip)$/, url);

  requests.clear();
  await page.goto("about:blank");
  await page.goto(belfry.pageOf("weight"));
  await listed();
  const warm = [...requests.values()].filter(({ type }) => FILES.has(type));
  const warmBytes = warm.reduce((sum, request) => sum + request.bytes, 0);
  t.diagnostic(`warm: ${warm.length} request, ${warmBytes} bytes`);
  assert.deepEqual(warm.map(({ type }) => type), ["Document"]);
  assert.ok(warmBytes < 1_000, `${warmBytes} bytes: not the page again, but a 304`);
  await context.close();
});

test("the client's scripts may be loaded by a page of any origin, compressed and revalidated", async () => {
  const answer = await fetch(new URL("js/websocket-client.js", belfry.addresses.dashboard), { headers: { Origin: "https://app.example.test", "Accept-Encoding": "gzip, br" } });
  assert.equal(answer.headers.get("access-control-allow-origin"), "*");
  assert.equal(answer.headers.get("content-encoding"), "br");
  assert.match(await answer.text(), /^.+$/s);
  const again = await fetch(answer.url, { headers: { "Accept-Encoding": "gzip, br", "If-None-Match": answer.headers.get("etag") ?? "" } });
  assert.equal(again.status, 304);
});
