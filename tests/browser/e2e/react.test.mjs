// The React example: Vite builds it, and it is live in Chromium.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { FakeEdge } from "../fake-edge.mjs";
import { faultsOf } from "./axe-core.mjs";
import { fakeToken } from "./own-page.mjs";
import { openBrowser, TIMEOUT_MS, until } from "./page.mjs";

const EXAMPLE = fileURLToPath(new URL("../../../edge/web/client/examples/react/", import.meta.url));
const OUT = fileURLToPath(new URL("../out/react/", import.meta.url));

let chromium;
let edge;

before(async () => {
  if (!existsSync(`${EXAMPLE}node_modules/vite`)) execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: EXAMPLE });
  execFileSync(`${EXAMPLE}node_modules/.bin/vite`, ["build", "--outDir", OUT, "--emptyOutDir"], { cwd: EXAMPLE });
  chromium = await openBrowser();
  edge = await FakeEdge.start();
  edge.pages.set("/react", { type: "text/html", text: readFileSync(`${OUT}index.html`, "utf8") });
  for (const name of readdirSync(`${OUT}assets`)) edge.pages.set(`/assets/${name}`, { type: "text/javascript", text: readFileSync(`${OUT}assets/${name}`, "utf8") });
  edge.pages.set("/token", { type: "application/json", text: JSON.stringify({ token: fakeToken("u1") }) });
});
after(async () => {
  await chromium?.browser.close();
  await edge?.stop();
});

test("the hook shows documents and toasts, with one connection under StrictMode", async () => {
  const page = await chromium.browser.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.goto(`${edge.url}react`);
  await page.locator("#state", { hasText: "connected" }).waitFor();
  edge.publish("image_processed", { documentId: "d1", documentType: "passport_picture", status: "completed", jobId: "j1" });
  await page.locator("li", { hasText: "d1" }).waitFor();
  await page.locator(".toast", { hasText: "Passport picture is ready" }).waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
  await until(() => edge.sessions === 1, "one session");
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing on the example, ${colorScheme}`, async () => {
    const page = await chromium.browser.newPage({ colorScheme });
    await page.goto(`${edge.url}react`);
    await page.locator("#state", { hasText: "connected" }).waitFor();
    edge.publish("image_processed", { documentId: colorScheme, documentType: "passport_picture", status: "completed", jobId: colorScheme });
    await page.locator(".toast").waitFor();
    assert.deepEqual(await faultsOf(page), []);
    await page.close();
  });
}
