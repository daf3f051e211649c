// The dashboard with notifier, edge and processors in processes of their own, started by
// the commands of docs/operations.md. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePort } from "./nginx.mjs";
import { openBrowser, rowWithPicture, state, until } from "./page.mjs";

let chromium;
let dir;
let edge;
let token;
const running = [];

/** A server, by a command of the page, on the ports of this test. */
function start(command, ports) {
  const [, ...args] = command.split(" ");
  const child = spawn(process.env.BELFRY_BIN, [...args, ...ports], { cwd: dir, stdio: ["ignore", "ignore", "pipe"] });
  child.stderr.resume();
  running.push(child);
}

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "belfry-processes-"));
  const page = await readFile(new URL("../../../docs/operations.md", import.meta.url), "utf8");
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]);
  const block = blocks.find((each) => each.includes("belfry token user demo")) ?? "";
  const lines = block.trim().split("\n");
  const command = (name) => {
    const line = lines.find((each) => each.startsWith(`belfry ${name} `));
    assert.ok(line, `the page starts \`belfry ${name}\`: ${block}`);
    return line;
  };
  // Secrets and tokens of services come first, whatever makes them.
  for (const line of lines.filter((each) => !/^belfry (notifier|edge|processors|token user) /.test(each))) {
    execFileSync("sh", ["-c", `belfry() { "$BELFRY_BIN" "$@"; }; ${line}`], { cwd: dir });
  }
  const [grpc, notifierHttp, web, works] = await Promise.all([1, 2, 3, 4].map(() => freePort()));
  const at = (port) => `127.0.0.1:${port}`;
  edge = `http://${at(web)}`;
  const processorsUrl = ["http://127.0.0.1:8081", `http://${at(works)}`];
  start(command("notifier"), ["--grpc-listen", at(grpc), "--notifier-http-listen", at(notifierHttp)]);
  start(command("edge").replace(...processorsUrl), ["--edge-listen", at(web), "--notifier-url", `http://${at(grpc)}`]);
  start(command("processors"), ["--processors-listen", at(works), "--notifier-url", `http://${at(grpc)}`]);
  token = execFileSync(process.env.BELFRY_BIN, command("token user").split(" ").slice(1), { cwd: dir, encoding: "utf8" }).trim();
  await until(async () => (await fetch(`${edge}/readyz`).catch(() => null))?.ok, "a ready edge");
  await until(async () => (await fetch(`http://${at(works)}/readyz`).catch(() => null))?.ok, "ready processors");
  chromium = await openBrowser();
});

after(async () => {
  await chromium?.browser.close();
  for (const child of running) child.kill("SIGKILL");
  await Promise.all(running.map((child) => child.exitCode ?? new Promise((resolve) => child.once("exit", resolve))));
  await rm(dir, { recursive: true, force: true });
});

test("in three processes, by the commands of the operations page, the dashboard signs in, uploads and shows the picture", async () => {
  const { page, faults, close } = await chromium.dashboard(`${edge}/`, { waits: false });
  await page.locator("#token-input").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await state(page, "connected");
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator("#documents li").first());
  await page.locator('.toast[data-kind="success"]').waitFor();
  assert.ok(await page.locator("#queues").isVisible(), "the token grants a queue");
  assert.deepEqual(faults, []);
  await close();
});
