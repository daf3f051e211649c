// The dashboard behind a real nginx that ends TLS and adds a path prefix: no address
// that is made inside the proxy may reach the page. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startBelfry } from "./binary.mjs";
import { freePort, startNginx } from "./nginx.mjs";
import { picture, Site, STATUS, tags } from "./own-page.mjs";
import { live } from "./own-page-world.mjs";
import { openBrowser, rowWithPicture, TIMEOUT_MS, until } from "./page.mjs";
import { Publisher } from "./publisher.mjs";

const GUIDE = readFileSync(new URL("../../../docs/guide/dashboard.md", import.meta.url), "utf8");
const SAMPLE = fileURLToPath(new URL("../../../edge/web/dashboard/sample.jpg", import.meta.url));

let chromium;
let belfry;
let nginx;
/** A page of another host, with the three tags. */
let own;
let site;

/** The proxy's configuration as the guide shows it, with this test's addresses. */
function guideLocations({ edge, processors }) {
  const [, block] = /^```nginx\n(.*?)^```$/ms.exec(GUIDE) ?? [];
  assert.ok(block, "the guide has a configuration of nginx");
  return block.replaceAll("127.0.0.1:8080", edge).replaceAll("127.0.0.1:8081", processors);
}

before(async () => {
  chromium = await openBrowser(["--host-resolver-rules=MAP app.example.test 127.0.0.1"]);
  const port = await freePort();
  site = `https://app.example.test:${port}`;
  own = await Site.start(tokenOf);
  belfry = await startBelfry(["--origins", `${site},${own.origin}`, "--log", "edge=info"]);
  const hosts = { edge: new URL(belfry.addresses.dashboard).host, processors: new URL(belfry.addresses.processors).host };
  nginx = await startNginx(guideLocations(hosts), port);
});

after(async () => {
  await chromium?.browser.close();
  await nginx?.stop();
  await own?.stop();
  await belfry?.stop();
});

/** A token of the user, as `belfry token user` signs it. */
function tokenOf(user) {
  return execFileSync(process.env.BELFRY_BIN, ["token", "user", user, "--data-dir", belfry.dataDir], { encoding: "utf8" }).trim();
}

/** The page, in a browser that finds the name of the site here. */
async function open(url, user) {
  const context = await chromium.browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const [faults, addresses] = [[], new Set()];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("request", (request) => request.url().startsWith("http") && addresses.add(new URL(request.url()).origin));
  page.on("websocket", (socket) => addresses.add(socket.url()));
  await page.addInitScript((token) => Object.assign(window, { BELFRY_TOKEN: token }), tokenOf(user));
  await page.goto(url);
  return { page, faults, addresses, close: () => context.close() };
}

test("behind TLS and a prefix the page connects, uploads, and shows the picture, from its own host alone", async () => {
  const { page, faults, addresses, close } = await open(`${site}/live/`, "proxied");
  await page.locator('#connection[data-state="connected"]').waitFor();
  await page.locator("#file").setInputFiles(SAMPLE);
  const row = page.locator("#documents li").first();
  await rowWithPicture(page, row);
  await page.locator("#sample").click();
  await until(async () => (await page.locator('#documents li[data-status="completed"]').count()) === 2, "the sample, too");
  assert.match((await row.locator("a").getAttribute("href")) ?? "", new RegExp(`^${site}/live/processors/files/`));
  assert.deepEqual([...addresses].toSorted(), [site, `${site.replace("https", "wss")}/live/ws`].toSorted());
  assert.deepEqual(faults, []);
  await close();
});

test("a page with the three tags gets links to files that it can open, and other links as they were published", async () => {
  const url = own.page("/", `${STATUS}${tags(`${site}/live/`)}`, { attributes: 'data-user-id="linked" data-token-url="/token"' });
  const { page, close } = await open(url, "linked");
  await live(page);
  await page.evaluate(() => {
    window.links = [];
    window.getDashboardWebSocket().on("image_processed", ({ signedUrl, thumbnailUrl }) => window.links.push(signedUrl, thumbnailUrl));
  });
  const publisher = await Publisher.connect(belfry);
  const inside = new URL("files/a.jpg?signature=1", belfry.addresses.processors).href;
  await publisher.publish("linked", "image_processed", picture(1, { signedUrl: inside, thumbnailUrl: "https://cdn.example.test/a.jpg" }));
  await until(() => page.evaluate(() => window.links.length === 2), "the event");
  assert.deepEqual(await page.evaluate(() => window.links), [`${site}/live/processors/files/a.jpg?signature=1`, "https://cdn.example.test/a.jpg"]);
  publisher.close();
  await close();
});

test("a page of an origin that is not listed says so, with the setting, and the edge logs it once", async () => {
  // The same server by another name: its origin is not on the list.
  const origin = `https://127.0.0.1:${nginx.port}`;
  const { page, close } = await open(`${origin}/live/`, "stranger");
  await page.locator("#refused").waitFor();
  const text = await page.locator("#refused").textContent();
  assert.ok(text.includes(origin) && text.includes(`--origins ${origin}`), text);
  const lines = await until(() => belfry.log().split("\n").filter((line) => line.includes(origin)), "a line in the log");
  assert.equal(lines.length, 1, lines.join("\n"));
  assert.match(lines[0], /WARN.*`origins`.*`--origins`.*`BELFRY_ORIGINS`/);
  await close();
});
