// The network between a page and its edge, under a test's control: connections are counted,
// cut, stalled and refused.

import { connect, createServer } from "node:net";

/** Forwards to one port, which may change. */
export class CutProxy {
  /** Where connections go; a test that restarts the edge sets it. */
  port;
  /** WebSockets since the start. */
  upgrades = 0;
  /** New connections are reset at once. */
  refuses = false;
  /** Nothing passes, nothing is closed: a network that is gone. */
  #stalled = false;
  /** @type {Set<{inner: import("node:net").Socket, outer: import("node:net").Socket, socket: boolean}>} */
  #links = new Set();
  #server;

  /** @param {number} port */
  static async start(port) {
    const proxy = new CutProxy();
    proxy.port = port;
    proxy.#server = createServer((outer) => proxy.#accept(outer));
    await new Promise((resolve) => proxy.#server.listen(0, "127.0.0.1", () => resolve(null)));
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}/`;
    return proxy;
  }

  /** @returns {number} WebSockets that are open now */
  get sockets() {
    return [...this.#links].filter(({ socket }) => socket).length;
  }

  /** Ends every WebSocket without a close frame. */
  cut() {
    for (const link of this.#links) if (link.socket) this.#end(link);
  }

  /** @param {boolean} on */
  stall(on) {
    this.#stalled = on;
    for (const { inner, outer } of this.#links) for (const side of [inner, outer]) on ? side.pause() : side.resume();
  }

  async stop() {
    for (const link of this.#links) this.#end(link);
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(outer) {
    if (this.refuses) return outer.resetAndDestroy();
    const inner = connect(this.port, "127.0.0.1");
    const link = { inner, outer, socket: false };
    this.#links.add(link);
    outer.once("data", (head) => {
      if (!/^GET \S*\/ws[? ]/.test(head.toString("latin1", 0, 200))) return;
      link.socket = true;
      this.upgrades += 1;
    });
    for (const [from, to] of [[outer, inner], [inner, outer]]) {
      from.on("error", () => this.#end(link));
      from.on("close", () => this.#end(link));
      from.pipe(to);
      if (this.#stalled) from.pause();
    }
  }

  #end(link) {
    if (!this.#links.delete(link)) return;
    link.inner.destroy();
    link.outer.destroy();
  }
}
