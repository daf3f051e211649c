// Bundles the client with esbuild: `node edge/web/client/build.mjs` from anywhere.
//
// Promise: `dist/` is made of what `generate.mjs` and esbuild print; the same sources give the same bytes; `dist/` is committed, and a test
// builds it again and compares. esbuild is the one that the browser tests install.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

await import("./generate.mjs");

const require = createRequire(new URL("../../../tests/browser/package.json", import.meta.url));
const { build } = require("esbuild");

/** Sources and what they become. Classic scripts run as modules, too. */
const BUNDLES = [
  { source: "toast-notifications.js", format: "iife" },
  { source: "websocket-client.js", format: "iife" },
  { source: "dashboard-websocket-init.js", format: "iife" },
  { source: "belfry-client.js", format: "esm", extension: ".mjs" },
];

/** Members that no page and no other bundle sees: classic scripts have short names for them. */
const INTERNAL =
  /^(abandon|acquire|activated|advice|begin|buffered|check|closeCode|commit|deactivated|dropped|element|emit|established|firstFrame|firstRequest|fixed|flush|follow|followOf|forget|inMs|keep|leftMs|listen|lost|onChange|onEnd|onFrame|onHide|onPing|onPong|onResume|pingSent|pongReceived|ranFor|refreshInMs|refused|report|restore|resume|rightsChanged|saveSoon|sent|startedAt|stated|succeeded|timer|toSend|unfollow|unwatch|view|waiting|watches|withoutPresence)$/;

/** @param {{source: string, format: "iife" | "esm", extension?: string}} bundle */
function options({ source, format, extension }) {
  const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
  return {
    entryPoints: [at(`src/${source}`)],
    outfile: at(`dist/${source.replace(/\.js$/, extension ?? ".js")}`),
    absWorkingDir: at("."),
    bundle: true,
    minify: true,
    ...(format === "iife" && { mangleProps: INTERNAL }),
    legalComments: /** @type {const} */ ("none"),
    target: "es2022",
    format,
    logLevel: /** @type {const} */ ("warning"),
  };
}

for (const bundle of BUNDLES) await build(options(bundle));
