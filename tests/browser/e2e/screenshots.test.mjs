// The dashboard as newcomers see it: desktop, phone and dark, in each state, into out/,
// which is not committed. docs/dashboard.png is out/dashboard.png, copied by
// tests/browser/copy-screenshot after a change.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, rowWithPicture, shoot, state } from "./page.mjs";

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
  // No timer runs out under the camera.
  await page.locator(".toast").first().hover();
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

/** States beside the busy one: how the page gets there. */
const STATES = {
  async empty(edge, page) {
    await state(page, "connected");
  },
  async failed(edge, page) {
    await page.locator("#broken").click();
    await page.locator('.doc[data-status="failed"]').waitFor();
    await page.locator('.toast[data-kind="error"]').waitFor();
  },
  async offline(edge, page) {
    await page.locator("#sample").click();
    await rowWithPicture(page, page.locator("#documents li").first());
    await page.context().setOffline(true);
    edge.cut();
    await page.locator("#connection-text", { hasText: "Offline" }).waitFor();
  },
  async bell(edge, page) {
    for (let n = 1; n <= 4; n += 1) edge.publish("image_processed", { documentId: `d${n}`, documentType: "receipt_picture", status: "completed", jobId: `j${n}` });
    edge.publish("image_processing_failed", { documentId: "d9", documentType: "passport_picture", jobId: "j9", status: "failed", errorCode: "damaged_file", error: "The file is damaged." });
    await page.locator("#badge", { hasText: "5" }).waitFor();
    await page.locator("#bell").click();
    await page.locator("#feed li").nth(4).waitFor();
  },
  async token(edge, page) {
    await page.locator("#token-dialog").waitFor();
  },
};

for (const [name, reach] of Object.entries(STATES)) {
  for (const [look, context] of [["desktop", { viewport: { width: 1280, height: 800 } }], ["phone-dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }]]) {
    test(`state-${name}-${look}.png`, async () => {
      const edge = await FakeEdge.start();
      edge.devTokens = name !== "token";
      const { page, close } = await chromium.dashboard(edge.url, { context, waits: name !== "token" });
      await reach(edge, page);
      // A dialog covers the window, not the page.
      await shoot(page, `state-${name}-${look}`, name !== "token");
      await close();
      await edge.stop();
    });
  }
}

test("the README's picture has the size of the current screenshot", () => {
  const size = (path) => {
    const png = readFileSync(new URL(path, import.meta.url));
    return [png.readUInt32BE(16), png.readUInt32BE(20)];
  };
  const [width, height] = size("../out/dashboard.png");
  const [wide, high] = size("../../../docs/dashboard.png");
  assert.equal(wide, width, "copy it by tests/browser/copy-screenshot");
  // A line more or less of text by another font is no other page.
  assert.ok(Math.abs(high - height) <= 40, `${high} px high, the page is ${height}: copy it by tests/browser/copy-screenshot`);
});
