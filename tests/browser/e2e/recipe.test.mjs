// The token recipes of docs/guide/dashboard.md, run as they stand there: each token is
// accepted by the real edge. Needs BELFRY_BIN; a language that is missing is named.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { startBelfry } from "./binary.mjs";

/** File name and the command that runs it. */
const RECIPES = [
  ["token.mjs", ["node"]],
  ["token.py", ["python3"]],
  ["token.go", ["go", "run"]],
  ["token.rb", ["ruby"]],
  ["token.php", ["php"]],
];

let belfry;
let dir;
let guide;

before(async () => {
  belfry = await startBelfry();
  dir = await mkdtemp(join(tmpdir(), "belfry-recipe-"));
  guide = await readFile(new URL("../../../docs/guide/dashboard.md", import.meta.url), "utf8");
});
after(async () => {
  await belfry?.stop();
  await rm(dir, { recursive: true, force: true });
});

/** The block whose first line names the file. */
function recipe(name) {
  const block = [...guide.matchAll(/^```\w+\n(.*?)^```$/gms)].map((match) => match[1]).find((text) => text.split("\n")[0].includes(`${name}:`));
  assert.ok(block, `the guide has no ${name}`);
  return block;
}

function isThere(command) {
  try {
    execFileSync("which", [command], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The edge's first answer to a token. */
function firstFrame(token) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(belfry.addresses.ws);
    socket.on("open", () => socket.send(JSON.stringify({ type: "connect", token, queues: ["support"] })));
    socket.on("message", (data) => {
      resolve(JSON.parse(String(data)));
      socket.close();
    });
    socket.on("error", reject);
  });
}

for (const [name, [command, ...args]] of RECIPES) {
  const skip = isThere(command) ? false : `${command} is not installed`;
  test(`the token of ${name} is accepted, with its queue`, { skip }, async () => {
    const file = join(dir, name);
    await writeFile(file, recipe(name));
    const env = { ...process.env, BELFRY_USERS_KEY: join(belfry.dataDir, "secrets", "users.key") };
    const token = execFileSync(command, [...args, file], { encoding: "utf8", env }).trim();
    const frame = await firstFrame(token);
    assert.equal(frame.type, "connected", JSON.stringify(frame));
    assert.equal(frame.user, "u1");
    assert.ok(frame.streams["queue:support"], JSON.stringify(frame));
    assert.ok(Math.abs(frame.expiresInMs - 3_604_500) < 10_000, "an hour and the leeway");
  });
}
