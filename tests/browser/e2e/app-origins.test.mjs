// Pages of apps and extensions at the real binary: their origins are on the edge's list,
// byte for byte. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import puppeteer from "puppeteer-core";
import { WebSocket } from "ws";
import { executable } from "../chromium.mjs";
import { picture } from "./own-page.mjs";
import { until } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

const DIST = new URL("../../../edge/web/client/dist/", import.meta.url);
const SCRIPTS = ["toast-notifications.js", "websocket-client.js", "dashboard-websocket-init.js"];
const APPS = ["capacitor://localhost", "ionic://localhost", "tauri://localhost"];

let browser;
let directory;
let edge;
let extension;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "belfry-extension-"));
  await writeFile(join(directory, "manifest.json"), JSON.stringify({ manifest_version: 3, name: "A page", version: "1.0" }));
  browser = await puppeteer.launch({ executablePath: executable(), headless: true, enableExtensions: true, pipe: true, args: ["--no-sandbox", "--disable-gpu"] });
  extension = `chrome-extension://${await browser.installExtension(directory)}`;
  edge = await RealEdge.start([...APPS, extension]);
  edge.nextUser();
});
after(async () => {
  await browser?.close();
  await edge?.stop();
  await rm(directory, { recursive: true, force: true });
});

/** What the edge answers first: a frame, or the status of its refusal. @param {string} origin */
function firstAnswer(origin) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(edge.wsUrl, { origin });
    socket.on("open", () => socket.send(JSON.stringify({ type: "connect", token: edge.sign(edge.user) })));
    socket.on("message", (data) => {
      resolve(JSON.parse(String(data)).type);
      socket.close();
    });
    socket.on("unexpected-response", (request, { statusCode }) => {
      resolve(statusCode);
      request.destroy();
    });
    socket.on("error", reject);
  });
}

test("origins of apps that are listed are let in, others are not", async () => {
  for (const origin of APPS) assert.equal(await firstAnswer(origin), "connected", origin);
  for (const origin of ["capacitor://other", "tauri://localhost:1", "null", "chrome-extension://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]) assert.equal(await firstAnswer(origin), 403, origin);
});

test("a page of a browser extension is live", async () => {
  for (const name of SCRIPTS) await copyFile(new URL(name, DIST), join(directory, name));
  const config = `window.BelfryConfig = { user: ${JSON.stringify(edge.user)}, token: async () => ${JSON.stringify(edge.sign(edge.user))}, wsUrl: ${JSON.stringify(edge.wsUrl)} };`;
  await writeFile(join(directory, "config.js"), config);
  const tags = ["config.js", ...SCRIPTS].map((name) => `<script src="${name}"></script>`).join("");
  await writeFile(join(directory, "page.html"), `<!doctype html><body><p id="ws-connection-status"></p>${tags}</body>`);
  const page = await browser.newPage();
  await page.goto(`${extension}/page.html`);
  await until(() => page.evaluate(() => document.querySelector("#ws-connection-status")?.dataset.state === "live"), "a live page");
  assert.equal(await page.evaluate(() => location.origin), extension);
  await edge.publish("image_processed", picture(1));
  await until(() => page.evaluate(() => document.querySelector("belfry-toasts")?.shadowRoot?.querySelector(".toast .toast-open")?.textContent === "Passport picture is ready"), "a toast");
  await page.close();
});
