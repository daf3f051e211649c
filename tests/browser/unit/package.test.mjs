// The package: bundles are what the sources give, types are what the edge sends.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const CLIENT = new URL("../../../edge/web/client/", import.meta.url);
const GOLDEN = new URL("../../../edge/tests/golden/", import.meta.url);
const TSC = fileURLToPath(new URL("../node_modules/.bin/tsc", import.meta.url));
const HERE = fileURLToPath(new URL("../", import.meta.url));
/** Of client and toasts together, in bytes. */
const BUDGET = 14 * 1024;

const dist = (name) => readFileSync(new URL(`dist/${name}`, CLIENT));
const tsc = (...files) => execFileSync(TSC, ["--noEmit", "--strict", "--ignoreConfig", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--types", "", ...files], { cwd: HERE, encoding: "utf8" });

test("what is committed in dist is what the sources give", () => {
  const before = Object.fromEntries(readdirSync(new URL("dist/", CLIENT)).map((name) => [name, dist(name)]));
  execFileSync(process.execPath, [fileURLToPath(new URL("build.mjs", CLIENT))]);
  for (const [name, bytes] of Object.entries(before)) assert.ok(bytes.equals(dist(name)), `${name} is out of date: run edge/web/client/build.mjs`);
  assert.deepEqual(readdirSync(new URL("dist/", CLIENT)), Object.keys(before));
});

test("client and toasts have at most 14 KB gzipped, and nothing to install", () => {
  const bytes = gzipSync(Buffer.concat([dist("toast-notifications.js"), dist("websocket-client.js")]), { level: 9 }).length;
  assert.ok(bytes <= BUDGET, `${bytes} bytes, ${BUDGET} are allowed`);
  const { dependencies = {}, peerDependencies = {} } = JSON.parse(readFileSync(new URL("package.json", CLIENT), "utf8"));
  assert.deepEqual({ ...dependencies, ...peerDependencies }, {});
});

test("the types accept what is right and refuse wrong names and fields", () => {
  tsc("types/right.ts", "types/wrong.ts");
});

test("every frame of the edge is one of the types", () => {
  const events = readFileSync(new URL("dist/belfry-client.d.ts", CLIENT), "utf8").match(/^ {2}type: "(\w+)";/gm).map((line) => line.slice(9, -2));
  const lines = readdirSync(GOLDEN).map((name) => {
    const frame = JSON.parse(readFileSync(new URL(name, GOLDEN), "utf8"));
    if (frame.type === "pong" || frame.type === "presence") return "";
    assert.ok(events.includes(frame.type) || /^(bye|connected|degraded|error|gap|recovered|refreshed|retract|subscribed|unsubscribed|unknown)$/.test(frame.type), name);
    return `export const ${name.replace(".json", "")}: HandlerMap["${frame.type}"] = ${JSON.stringify(frame)};`;
  });
  const folder = mkdtempSync(`${HERE}types/golden-`);
  try {
    writeFileSync(`${folder}/golden.ts`, `import type { HandlerMap } from "../../../../edge/web/client/dist/belfry-client";\n${lines.join("\n")}\n`);
    tsc(`${folder}/golden.ts`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the package can be imported where there is neither window nor document", () => {
  const program = 'const { DashboardWebSocketClient, showToast } = await import(process.argv[1]); const c = new DashboardWebSocketClient({ url: "ws://127.0.0.1:9/ws", token: "t" }); console.log(c.state, typeof showToast, typeof globalThis.showToast);';
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", program, new URL("dist/belfry-client.mjs", CLIENT).href], { encoding: "utf8" });
  assert.equal(out.trim(), "disconnected function undefined");
});

test("`npm pack` takes the bundles, their types and the page about them, nothing else", () => {
  const [{ name, files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: fileURLToPath(CLIENT), encoding: "utf8" }));
  assert.equal(name, "belfry-client");
  const bundles = ["belfry-client.d.ts", "belfry-client.mjs", "dashboard-websocket-init.js", "toast-notifications.js", "websocket-client.js"];
  assert.deepEqual(files.map(({ path }) => path).sort(), ["README.md", ...bundles.map((file) => `dist/${file}`), "package.json"].sort());
});
