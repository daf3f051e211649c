// The whole way of a report and of a recording, with the real binary and an engine
// of the test's own. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { notReloaded, openBrowser, rowWithPicture, shoot } from "./page.mjs";
import { startBelfry } from "./binary.mjs";

let belfry;
let chromium;
let engine;
/** Answers wait for this. */
let mayAnswer = Promise.resolve();

/** Answers as OpenAI's service does, and answers with the sample's transcript. */
async function startEngine() {
  const server = createServer(async (request, response) => {
    for await (const chunk of request) void chunk;
    await mayAnswer;
    response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ text: "The bell rings when your work is done.", language: "en" }));
  });
  const port = await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
  return { server, url: `http://127.0.0.1:${port}/v1` };
}

before(async () => {
  engine = await startEngine();
  belfry = await startBelfry(["--transcription-url", engine.url]);
  chromium = await openBrowser();
});

after(async () => {
  await chromium?.browser.close();
  await belfry?.stop();
  engine?.server.closeAllConnections();
  await new Promise((resolve) => engine?.server.close(resolve));
});

const open = (user) => chromium.dashboard(belfry.pageOf(user));

test("a report with a picture becomes a PDF that opens", async () => {
  const { page, faults, close } = await open("reporter");
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator("#documents li"));
  await page.getByText("Write an incident report").click();
  await page.locator("#report-sample").click();
  await page.getByRole("checkbox", { name: "Driving license picture 1" }).check();
  await page.getByRole("button", { name: "Create report" }).click();
  await page.locator('#reports li[data-status="completed"]').waitFor();
  assert.match(await page.locator("#reports .doc-detail").textContent(), /^\d+ pages? · [\d.]+ [kM]B$/);
  const file = await page.request.get(await page.locator("#reports a.open").getAttribute("href"));
  assert.equal(file.status(), 200);
  assert.equal((await file.body()).subarray(0, 5).toString(), "%PDF-");
  await page.locator(".toast", { hasText: "Bell tower without power is ready" }).waitFor();
  await page.reload();
  await page.locator('#reports li[data-status="completed"]').waitFor();
  assert.equal(await page.locator("#reports .doc-name").textContent(), "Bell tower without power");
  assert.deepEqual(faults, []);
  await close();
});

test("the sample recording becomes its text", async () => {
  const { page, faults, close } = await open("speaker");
  await page.locator("#audio-sample").click();
  await page.locator('#transcriptions > li[data-status="completed"]').waitFor();
  assert.equal(await page.locator("#transcriptions .transcript").textContent(), "The bell rings when your work is done.");
  assert.match(await page.locator("#transcriptions .doc-detail").first().textContent(), /^0:02 long · English$/);
  await notReloaded(page);
  await shoot(page, "belfry-works");
  await page.reload();
  await page.locator("#transcriptions .transcript", { hasText: "The bell rings" }).waitFor();
  assert.equal(await page.locator("#transcriptions .doc-name").textContent(), "sample.wav");
  assert.deepEqual(faults, []);
  await close();
});

test("a recording that is being transcribed can be cancelled", async () => {
  const { page, close } = await open("canceller");
  let answer;
  mayAnswer = new Promise((resolve) => {
    answer = resolve;
  });
  await page.locator("#audio-sample").click();
  await page.getByRole("button", { name: /^Cancel: / }).click();
  await page.locator('#transcriptions > li[data-status="failed"]').waitFor();
  assert.equal(await page.locator("#transcriptions .doc-status").textContent(), "Cancelled");
  answer();
  await close();
});
