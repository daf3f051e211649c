// Renders sample/bell-tower.svg to edge/web/dashboard/sample.jpg. Run by hand after a change of the drawing.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { launch } from "../chromium.mjs";

const svg = await readFile(new URL("bell-tower.svg", import.meta.url), "utf8");
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1600, height: 1200 } });
await page.setContent(`<style>body{margin:0}svg{display:block}</style>${svg}`);
await page.screenshot({ path: fileURLToPath(new URL("../../../edge/web/dashboard/sample.jpg", import.meta.url)), type: "jpeg", quality: 82 });
await browser.close();
