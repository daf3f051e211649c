// The page's contract in Firefox and WebKit against the real binary, row by row, as the
// own-page and tabs suites show it in Chromium. What a driver cannot do (clocks, real
// offline, frozen tabs) stands there alone. Needs BELFRY_BIN.

import { describe } from "node:test";
import { firefox, webkit } from "../browsers.mjs";
import { clientRows } from "./other-browsers-client.mjs";
import { pageRows } from "./other-browsers-page.mjs";
import { toastRows } from "./other-browsers-toasts.mjs";
import { otherBrowserWorld } from "./other-browsers-world.mjs";

for (const [name, launch] of /** @type {const} */ ([["Firefox", firefox], ["WebKit", webkit]])) {
  describe(name, { concurrency: false }, () => {
    const world = otherBrowserWorld(name, launch);
    pageRows(world);
    clientRows(world);
    toastRows(world);
  });
}
