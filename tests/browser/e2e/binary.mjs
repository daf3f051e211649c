// The real binary, on free ports, in a directory of its own. Needs BELFRY_BIN.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { until } from "./page.mjs";

/**
 * `belfry up`, ready.
 *
 * @param {string[]} [more] arguments
 * @param {any} [former] one that was killed: the new one has its directory and ports
 */
export async function startBelfry(more = [], former) {
  const dataDir = former?.dataDir ?? (await mkdtemp(join(tmpdir(), "belfry-browser-")));
  const any = "127.0.0.1:0";
  const host = (url) => (url ? new URL(url).host : any);
  const at = former?.addresses;
  const args = ["up", "--data-dir", dataDir, "--edge-listen", host(at?.dashboard), "--grpc-listen", at?.grpc ?? any, "--processors-listen", host(at?.processors), "--notifier-http-listen", host(at?.notifierHttp), "--print-addresses-json", ...more];
  const belfry = spawn(process.env.BELFRY_BIN ?? "", args, { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  belfry.stderr.on("data", (chunk) => {
    log = (log + chunk).slice(-8_000);
  });
  const first = await new Promise((resolve, reject) => {
    createInterface({ input: belfry.stdout }).on("line", (line) => {
      if (line.startsWith("{")) resolve(line);
    });
    belfry.once("error", reject);
    belfry.once("exit", (code) => reject(new Error(`belfry ended with ${code} before it was ready:\n${log}`)));
  });
  const addresses = JSON.parse(first);
  await until(async () => (await fetch(new URL("readyz", addresses.dashboard)).catch(() => null))?.ok, "a ready edge");

  /** As a power cut ends it: nothing is flushed, nobody is notified. */
  async function kill() {
    const ended = new Promise((resolve) => belfry.once("exit", resolve));
    belfry.kill("SIGKILL");
    await ended;
  }

  async function stop() {
    if (belfry.exitCode === null && belfry.signalCode === null) {
      const ended = new Promise((resolve) => belfry.once("exit", resolve));
      belfry.kill("SIGTERM");
      const late = setTimeout(() => belfry.kill("SIGKILL"), 15_000);
      await ended;
      clearTimeout(late);
    }
    await rm(dataDir, { recursive: true, force: true });
  }
  /**
   * The page of a user, with the key that the address holds.
   *
   * @param {string} user
   * @param {string} [queues] what the token is to grant; everything if absent
   */
  function pageOf(user, queues) {
    const url = new URL(addresses.dashboard);
    url.searchParams.set("user", user);
    if (queues !== undefined) url.searchParams.set("queues", queues);
    return url.href;
  }
  return { addresses, dataDir, pageOf, kill, stop, log: () => log };
}
