// The real binary as a page's tests use it: one process for a file, one user for a
// test, events from a service over gRPC, and the network between page and edge under
// its control. Needs BELFRY_BIN.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { startBelfry } from "./binary.mjs";
import { CutProxy } from "./cut-proxy.mjs";
import { Publisher } from "./publisher.mjs";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Signs tokens as a page's own backend does. @param {string} dataDir */
export function signer(dataDir) {
  const key = readFileSync(join(dataDir, "secrets/users.key"), "utf8").trim();
  return (/** @type {string} */ user, { lastsMs = 3_600_000, queues = ["*"] } = {}) => {
    const now = Math.floor(Date.now() / 1_000);
    const unsigned = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, aud: "belfry", iat: now, exp: now + lastsMs / 1_000, queues })}`;
    return `${unsigned}.${createHmac("sha256", key).update(unsigned).digest("base64url")}`;
  };
}

export class RealEdge {
  /** The user that events are published to: each test has its own. */
  user = "u0";
  static #users = 0;
  /** @type {string[]} */
  #args = [];

  /** @param {string[]} origins of the pages @param {string[]} [more] arguments of `belfry up` */
  static async start(origins, more = []) {
    const edge = new RealEdge();
    edge.#args = ["--origins", origins.join(","), ...more];
    edge.belfry = await startBelfry(edge.#args);
    edge.sign = signer(edge.belfry.dataDir);
    edge.publisher = await Publisher.connect(edge.belfry);
    edge.network = await CutProxy.start(Number(new URL(edge.belfry.addresses.dashboard).port));
    edge.url = edge.network.url;
    return edge;
  }

  /** Another user, for another test. @returns {string} */
  nextUser() {
    this.user = `u${++RealEdge.#users}`;
    return this.user;
  }

  get wsUrl() {
    return `${this.url.replace("http", "ws")}ws`;
  }

  /** WebSockets that are open now. */
  get sessions() {
    return this.network.sockets;
  }

  /** Stores an event for the user. @returns {Promise<string>} its id */
  publish(type, fields) {
    return this.publisher.publish(this.user, type, fields);
  }

  /** Stores events in their order. @param {[string, Record<string, any>][]} events */
  publishAll(events) {
    return this.publisher.publishAll(this.user, events);
  }

  /** Ends the process by SIGKILL. */
  kill() {
    return this.belfry.kill();
  }

  /** Starts it again, with its data, on its ports. */
  async startAgain() {
    this.belfry = await startBelfry(this.#args, this.belfry);
  }

  /** Cuts every WebSocket without a close. */
  cut() {
    this.network.cut();
  }

  async stop() {
    this.publisher.close();
    await this.network.stop();
    await this.belfry.stop();
  }
}
