// The program of docs/guide/dashboard.md, run as it stands there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, until } from "./page.mjs";

const [, guide = ""] = readFileSync(new URL("../../../docs/guide/dashboard.md", import.meta.url), "utf8").split("\n## The package\n").map((text, n) => (n === 0 ? text : text.split("\n## ")[0]));
const blocks = (language) => [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map((match) => match[1]);

let chromium;
let edge;

before(async () => {
  chromium = await openBrowser();
  edge = await FakeEdge.start();
  edge.pages.set("/guide", { type: "text/html", text: `<!doctype html><link rel="icon" href="data:,">${blocks("html").join("")}<script type="module" src="/guide.js"></script>` });
  edge.pages.set("/guide.js", { type: "text/javascript", text: `${blocks("js").join("\n").replace('"belfry-client"', '"/js/belfry-client.mjs"')}\nwindow.guide = { client };` });
  edge.pages.set("/my/token", { type: "application/json", text: '{"token":"a-token-of-mine"}' });
});
after(async () => {
  await chromium.browser.close();
  await edge.stop();
});

test("the guide's program connects, shows a job, its end, its receipts and who is there", async () => {
  assert.equal(blocks("js").length, 5);
  const { page, faults, close } = await chromium.dashboard(`${edge.url}guide`, { waits: false });
  await page.locator("#state", { hasText: "connected" }).waitFor();
  assert.equal(edge.connects[0].token, "a-token-of-mine");

  edge.guest("support", "u1", true);
  await page.locator('#people[data-total="2"]').waitFor();
  assert.deepEqual(await page.locator("#people li").allTextContents(), ["demo", "u1"]);

  edge.publish("image_processing_started", { jobId: "j1", status: "pending" });
  edge.ephemeral("job_progress", { jobId: "j1", percent: 40, stage: "decoding" });
  await page.locator('[data-key="j1"]', { hasText: "40 %" }).waitFor();
  await page.locator(".toast", { hasText: "decoding" }).waitFor();
  edge.publish("image_processing_failed", { jobId: "j1", status: "failed", errorCode: "stalled" });
  await page.locator('[data-key="j1"][data-phase="stalled"]').waitFor();
  const done = edge.publish("image_processed", { jobId: "j1", status: "completed" });
  await page.locator('[data-key="j1"][data-phase="done"]').waitFor();
  edge.ephemeral("job_progress", { jobId: "j1", percent: 90, stage: "late" });
  await until(() => edge.receipts.get(done.id)?.includes("displayed"), "displayed");
  assert.equal(await page.locator(".toast", { hasText: "late" }).count(), 0);
  assert.equal(await page.locator('[data-key="j1"]').textContent(), "image_processed");
  await page.getByRole("button", { name: "Your picture is ready", exact: true }).click();
  await until(() => edge.receipts.get(done.id)?.includes("read"), "read");

  const other = edge.publish("image_processed", { jobId: "j2", status: "completed" });
  await page.locator(".toast").waitFor();
  edge.send({ type: "retract", id: other.id, reason: "dismissed" });
  await until(async () => (await page.locator(".toast").count()) === 0, "the toast is gone");
  const expired = edge.publish("image_processed", { jobId: "j3", status: "completed", expired: true });
  await until(() => edge.receipts.get(expired.id)?.includes("delivered"), "delivered");
  assert.equal(await page.locator(".toast").count(), 0);
  assert.deepEqual(faults, []);
  await close();
});

test("what the guide says of bounds and names is so", async () => {
  const { page, close } = await chromium.dashboard(`${edge.url}guide`, { waits: false });
  await page.locator("#state", { hasText: "connected" }).waitFor();
  const found = await page.evaluate(() => {
    const { client } = window.guide;
    const count = (what) => {
      for (let n = 0; ; n += 1) {
        try {
          what(n);
        } catch (error) {
          return error instanceof RangeError ? n : error;
        }
      }
    };
    const names = ["subscribe", "unsubscribe", "watchPresence", "unwatchPresence", "presence", "receipt"].filter((name) => typeof client[name] === "function");
    const dropped = client.droppedReceipts;
    client.close();
    return { handlers: count(() => client.on("custom", () => {})), watched: count((n) => client.watchPresence(`q${n}`)), names: names.length, dropped };
  });
  // `support` is watched already.
  assert.deepEqual(found, { handlers: 256, watched: 127, names: 6, dropped: 0 });
  await close();
});
