// The dashboard as newcomers see it: desktop, phone and dark, into out/, which is not
// committed. docs/dashboard.png is out/dashboard.png, copied by hand after a change.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, rowWithPicture, shoot } from "./page.mjs";

let chromium;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());

/** A page in the middle of its work. */
async function busy(edge, page) {
  edge.publish("custom", { name: "order_shipped", data: { order: "A-2041", carrier: "North Post" } });
  edge.publish("status_update", { updateType: "backup", resource: "accounts", status: "finished" });
  await page.locator("#broken").click();
  await page.locator('.doc[data-status="failed"]').waitFor();
  await page.locator("#document-type").selectOption("receipt_picture");
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator('#documents [data-status="completed"]').first());
  await page.locator("#report-maker summary").click();
  await page.locator("#report-sample").click();
  await page.getByRole("button", { name: "Create report" }).click();
  await page.locator('#reports [data-status="completed"]').waitFor();
  await page.locator("#report-maker summary").click();
  await page.locator("#audio-sample").click();
  await page.locator('#transcriptions [data-status="completed"]').waitFor();
  await page.getByLabel("Queue to follow").fill("support");
  await page.keyboard.press("Enter");
  await page.locator(".queue", { hasText: "3 here" }).waitFor();
  await page.locator("#queue-name").blur();
  while ((await page.locator(".toast").count()) > 0) await page.keyboard.press("Escape");
  edge.publish("image_processing_started", { documentId: "d1", documentType: "passport_picture", jobId: "j1", status: "pending" });
  edge.ephemeral("job_progress", { jobId: "j1", percent: 60, stage: "making the thumbnail" });
  await page.locator(".toast", { hasText: "making the thumbnail" }).waitFor();
  edge.publish("pdf_generated", { reportId: "r9", jobId: "r9", title: "Monthly figures", status: "completed", signedUrl: `${edge.processorsUrl}/pdf`, pages: 4, bytes: 48_000 });
  await page.locator(".toast", { hasText: "Monthly figures" }).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  // Entrances are over, and no timer runs out under the camera.
  await page.locator(".toast").first().hover();
  await page.evaluate(() => Promise.all(document.getAnimations().filter((each) => each.effect?.getTiming().iterations !== Infinity).map((each) => each.finished)));
}

for (const [name, context] of [
  ["dashboard", { viewport: { width: 1440, height: 1000 } }],
  ["dashboard-dark", { viewport: { width: 1440, height: 1000 }, colorScheme: "dark" }],
  ["dashboard-phone", { viewport: { width: 390, height: 844 } }],
  ["dashboard-phone-dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }],
]) {
  test(`${name}.png`, async () => {
    const edge = await FakeEdge.start();
    for (const user of ["maria", "jon"]) edge.guest("support", user, true);
    const { page, faults, close } = await chromium.dashboard(edge.url, { context });
    await busy(edge, page);
    await shoot(page, name);
    assert.deepEqual(faults, []);
    await close();
    await edge.stop();
  });
}
