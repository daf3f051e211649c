// Accessibility of the dashboard by axe-core, in both themes and in the states that
// people meet.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, rowWithPicture } from "./page.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

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

/** What axe finds, one line each: rule and element. */
async function faultsOf(page) {
  await page.evaluate(AXE);
  // Colours are measured as they are at rest.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((each) => each.effect?.getTiming().iterations !== Infinity).map((each) => each.finished)));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} (${failureSummary.split("\n").slice(1).join(" ").trim()})`));
}

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
}
