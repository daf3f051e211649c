// The programs of docs/migration.md, run as they stand there against the real binary.
// Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { picture, Site } from "./own-page.mjs";
import { openBrowser, TIMEOUT_MS, until } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

/** Below the tests, where Node finds the package `ws`. */
const OUT = new URL("../out/", import.meta.url);

let chromium;
let edge;
let guide;
let site;

before(async () => {
  guide = await readFile(new URL("../../../docs/migration.md", import.meta.url), "utf8");
  chromium = await openBrowser();
  site = await Site.start((user) => edge.sign(user));
  edge = await RealEdge.start([site.origin]);
});
after(async () => {
  await chromium?.browser.close();
  await edge?.stop();
  await site?.stop();
});
beforeEach(() => void edge.nextUser());

/** The one block of a language. */
function program(language) {
  const blocks = [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map((match) => match[1]);
  assert.equal(blocks.length, 1, language);
  return blocks[0];
}

test("the page that came from Socket.IO draws its rows, each once, over a cut too", async () => {
  const html = program("html").replaceAll("https://live.example.com/", edge.url).replace('"u1"', `"${edge.user}"`).replace("/my/token", "/token");
  site.pages.set("/moved", { html: `<!doctype html><link rel="icon" href="data:,">${html}` });
  const page = await chromium.browser.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.goto(`${site.origin}/moved`);
  const connected = () => page.evaluate(() => window.getDashboardWebSocket()?.state === "connected");
  await until(connected, "connected");
  await edge.publish("image_processed", picture(1));
  await page.locator("#rows li", { hasText: "d1" }).waitFor();
  edge.cut();
  await edge.publish("custom", { name: "order_shipped", data: { order: "A-2041" } });
  await page.locator("#rows li", { hasText: "A-2041" }).waitFor();
  assert.deepEqual(await page.locator("#rows li").allTextContents(), ["d1", "A-2041"]);
  await page.close();
});

test("the program that came from a bare ws server misses nothing over a cut and a kill of the edge", async () => {
  await mkdir(OUT, { recursive: true });
  const file = fileURLToPath(new URL("listen.mjs", OUT));
  await writeFile(file, program("mjs"));
  const listen = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, EDGE_WS: edge.wsUrl, TOKEN: edge.sign(edge.user) } });
  const ended = new Promise((resolve) => listen.once("exit", resolve));
  const lines = [];
  let errors = "";
  createInterface({ input: listen.stdout }).on("line", (line) => lines.push(line));
  listen.stderr.on("data", (chunk) => (errors += chunk));
  const events = () => lines.filter((line) => line !== "connected");
  const sent = [];
  const seen = async (n) => {
    await edge.publish("image_processed", picture(n));
    sent.push(`d${n}`);
    await until(() => events().length >= sent.length, `event ${n}`);
    assert.deepEqual(events(), sent);
  };
  try {
    await until(() => lines.length > 0, "a connection");
    await seen(1);
    edge.cut();
    await seen(2);
    await edge.kill();
    await edge.startAgain();
    await seen(3);
  } finally {
    listen.kill();
    await ended;
  }
  assert.equal(errors, "");
});
