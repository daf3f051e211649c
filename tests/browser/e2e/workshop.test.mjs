// Reports and transcriptions, the whole way with the real binary. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startBelfry } from "./binary.mjs";
import { openBrowser, rowWithPicture, shoot, until } from "./page.mjs";

let belfry;
let chromium;
let scripts;
let gate;

before(async () => {
  scripts = await mkdtemp(join(tmpdir(), "belfry-engine-"));
  gate = join(scripts, "open");
  // An engine that hears nothing before its gate is open.
  const engine = join(scripts, "engine");
  await writeFile(engine, `#!/bin/sh\nwhile [ ! -e '${gate}' ]; do sleep 0.05; done\nwc -c < "$1" | grep -q . && echo "ding dong"\n`);
  await chmod(engine, 0o755);
  belfry = await startBelfry(["--transcription-command", `${engine} {wav}`]);
  chromium = await openBrowser();
});

after(async () => {
  await chromium?.browser.close();
  await belfry?.stop();
  await rm(scripts, { recursive: true, force: true });
});

const open = (user, options) => chromium.dashboard(`${belfry.addresses.dashboard}?user=${user}`, options);

test("a report with the newest picture is made from the form and opens as a PDF", async () => {
  const { page, faults, close } = await open("reporter");
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator("#documents li").first());
  await page.getByText("Write an incident report").click();
  await page.locator("#report-sample").click();
  await page.locator("#report-pictures").check();
  await page.getByRole("button", { name: "Make the PDF" }).click();
  const row = page.locator("#reports li").first();
  await row.and(page.locator('[data-status="completed"]')).waitFor();
  assert.equal(await row.locator(".doc-name").textContent(), "Bell rope torn at the noon ringing");
  assert.match(await row.locator(".doc-detail").textContent(), /^[12] pages?, \d+ KB$/);
  const answer = await page.request.get(await row.locator(".work-open").getAttribute("href"));
  assert.equal(answer.headers()["content-type"], "application/pdf");
  assert.equal((await answer.body()).subarray(0, 5).toString(), "%PDF-");
  await page.locator('.toast[data-kind="success"]').filter({ hasText: "Bell rope torn" }).waitFor();
  await page.reload();
  await row.and(page.locator('[data-status="completed"]')).waitFor();
  await page.getByText("Write an incident report").click();
  await shoot(page, "workshop-light");
  assert.deepEqual(faults, []);
  await close();
});

test("what is missing in a report is said beside its form", async () => {
  const { page, close } = await open("hasty");
  await page.getByText("Write an incident report").click();
  await page.locator("#report-title").fill("   ");
  await page.locator("#report-summary").fill("x");
  await page.getByRole("button", { name: "Make the PDF" }).click();
  await page.locator("#reports-note").filter({ hasText: "`title` is empty" }).waitFor();
  assert.equal(await page.locator("#reports li").count(), 0);
  await close();
});

test("a recording is cancelled while it is listened to, another one is heard", async () => {
  const { page, faults, close } = await open("listener", { context: { colorScheme: "dark", viewport: { width: 390, height: 844 } } });
  await page.locator("#recording-sample").click();
  const rows = page.locator("#recordings li");
  await rows.first().getByRole("button", { name: /^Cancel/ }).click();
  const failed = page.locator('#recordings [data-status="failed"]');
  await failed.waitFor();
  assert.equal(await failed.locator(".doc-detail").textContent(), "You cancelled this.");
  await page.locator("#recording-sample").click();
  await until(async () => (await rows.count()) === 2, "a second row");
  await writeFile(gate, "");
  const heard = page.locator('#recordings [data-status="completed"]');
  await heard.waitFor();
  assert.equal(await heard.locator(".work-text").textContent(), "ding dong ding dong");
  assert.match(await heard.locator(".doc-detail").textContent(), /^0:0\d min, 2 segments$/);
  await shoot(page, "workshop-dark-phone");
  assert.deepEqual(faults, []);
  await close();
});
