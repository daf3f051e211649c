// Accessibility of the dashboard and of the library on a plain page, by axe-core, in
// both themes and in the states that people meet.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { faultsOf } from "./axe-core.mjs";
import { fakeToken, picture, Site, STATUS, tags } from "./own-page.mjs";
import { live } from "./own-page-world.mjs";
import { openBrowser, rowWithPicture } from "./page.mjs";

let chromium;
let edge;

before(async () => {
  chromium = await openBrowser();
  edge = await FakeEdge.start();
});
after(async () => {
  await chromium.browser.close();
  await edge.stop();
});

for (const colorScheme of ["light", "dark"]) {
  for (const [device, viewport] of [["desktop", { width: 1280, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
    test(`axe finds nothing on a busy dashboard, ${colorScheme}, ${device}`, async () => {
      const { page, close } = await chromium.dashboard(edge.url, { context: { colorScheme, viewport } });
      const id = `${colorScheme}-${device}`;
      edge.publish("image_processing_started", { documentId: id, documentType: "passport_picture", jobId: id, status: "pending" });
      edge.ephemeral("job_progress", { jobId: id, percent: 60, stage: "making the thumbnail" });
      edge.publish("status_update", { updateType: "report", resource: "monthly", status: "ready" });
      await page.locator("#sample").click();
      await rowWithPicture(page, page.locator('.doc[data-status="completed"]').first());
      await page.locator("#broken").click();
      await page.locator('.doc[data-status="failed"]').first().waitFor();
      await page.locator("#report-maker summary").click();
      await page.getByLabel("Queue to follow").fill("support");
      await page.keyboard.press("Enter");
      await page.locator(".queue", { hasText: "here" }).waitFor();
      assert.deepEqual(await faultsOf(page), []);
      await close();
    });
  }

  test(`axe finds nothing on the token dialog and on a refused page, ${colorScheme}`, async () => {
    const own = await FakeEdge.start();
    own.devTokens = false;
    own.letsOriginIn = false;
    const { page, close } = await chromium.dashboard(own.url, { waits: false, context: { colorScheme } });
    await page.locator("#token-dialog").waitFor();
    assert.deepEqual(await faultsOf(page), []);
    await page.locator("#token-input").fill("x.y.z");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("#refused").waitFor();
    assert.deepEqual(await faultsOf(page), []);
    await close();
    await own.stop();
  });

  test(`axe finds nothing on a plain page with toasts and open bell, ${colorScheme}`, async () => {
    const site = await Site.start((user) => fakeToken(user));
    const context = await chromium.browser.newContext({ colorScheme });
    const page = await context.newPage();
    const body = `<main><h1>Documents</h1><belfry-toasts></belfry-toasts><belfry-status></belfry-status><belfry-bell></belfry-bell>${STATUS}</main>${tags(edge.url)}`;
    await page.goto(site.page("/", body, { head: '<meta name="color-scheme" content="light dark">' }));
    await live(page);
    assert.deepEqual(await faultsOf(page), [], "without a toast");
    edge.publish("image_processing_started", picture(`p-${colorScheme}`));
    edge.ephemeral("job_progress", { jobId: `jp-${colorScheme}`, percent: 60, stage: "making the thumbnail" });
    await page.locator(".toast progress").waitFor();
    for (const kind of ["success", "error", "warning", "info"]) await page.evaluate((type) => window.showToast(`a ${type}`, "text", type, 0), kind);
    assert.deepEqual(await faultsOf(page), [], "with each kind of toast");
    for (let n = 0; n < 3; n += 1) await page.evaluate(() => window.showToast("more", "text", "info", 0));
    await page.locator(".toast-more").waitFor();
    await page.locator("belfry-bell .bell").click();
    await page.locator(".panel .notice").first().waitFor();
    assert.deepEqual(await faultsOf(page), [], "with the list open");
    await context.close();
    await site.stop();
  });
}
