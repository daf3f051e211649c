// Bundles the dashboard with esbuild: `node edge/web/dashboard/build.mjs` from anywhere.
//
// Promise: the same sources give the same bytes; `dist/` is committed, and a test
// builds it again and compares. esbuild is the one that the browser tests install.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../../../tests/browser/package.json", import.meta.url));
const { build } = require("esbuild");

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  entryPoints: [at("dashboard.js"), at("dashboard.css")],
  outdir: at("dist"),
  absWorkingDir: at("."),
  bundle: true,
  minify: true,
  legalComments: "none",
  target: "es2022",
  format: "esm",
  logLevel: "warning",
});
