// Renders docs/dashboard.png. Run by hand after a change of the page.

import { fileURLToPath } from "node:url";
import { openBrowser, rowWithPicture } from "../e2e/page.mjs";
import { FakeEdge } from "../fake-edge.mjs";

const edge = await FakeEdge.start();
const { browser, dashboard } = await openBrowser();
for (const user of ["u1", "u2"]) edge.guest("support", user, true);
const { page } = await dashboard(edge.url, { context: { viewport: { width: 1180, height: 1000 } } });
await page.getByLabel("Queue to follow").fill("support");
await page.keyboard.press("Enter");
await page.locator(".queue", { hasText: "3 here" }).waitFor();
edge.publish("status_update", { updateType: "report", resource: "monthly", status: "ready" }, { stream: "queue", queue: "support" });
await page.getByText("support · Report").waitFor();
await page.getByRole("button", { name: "Dismiss: Report" }).click();
await page.locator("#sample").click();
await rowWithPicture(page, page.locator("#documents li"));
const going = { documentId: "p", documentType: "passport_picture", jobId: "p" };
edge.publish("image_processing_started", { ...going, status: "pending" });
edge.ephemeral("job_progress", { jobId: "p", percent: 60, stage: "making the thumbnail", resourceId: "p" });
await page.locator('.toast progress[value="60"]').waitFor();
await page.locator('.toast[data-kind="progress"] .toast-close').click();
await page.evaluate(() => document.activeElement?.blur());
// Whatever moves has arrived; what turns for ever does not matter.
await page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect?.getTiming().iterations !== Infinity).map((one) => one.finished)));
await page.screenshot({ path: fileURLToPath(new URL("../../../docs/dashboard.png", import.meta.url)) });
await browser.close();
await edge.stop();
