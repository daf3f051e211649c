// What axe-core finds on a page, one line for each fault.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { atRest } from "./page.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Rule and element of each fault. @param {import("playwright-core").Page} page */
export async function faultsOf(page) {
  await page.evaluate(AXE);
  // Colours are measured as they are at rest.
  await atRest(page);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target} (${failureSummary.split("\n").slice(1).join(" ").trim()})`));
}
