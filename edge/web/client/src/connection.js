// One WebSocket connection: first frame, heartbeat, watchdog, and exactly one end.
//
// Promise: `onEnd` is called once and nothing is reported after it; every wait has a
// limit; at most `MAX_BUFFERED_BYTES` are buffered for the network.

/** Bytes that the browser may buffer for the network. */
const MAX_BUFFERED_BYTES = 64 * 1024;
/** Characters of one frame from the edge, which sends far less. */
const MAX_FRAME_CHARS = 8 * 1024 * 1024;

/**
 * The environment of a connection; tests bring their own.
 *
 * @typedef {object} World
 * @property {new (url: string) => WebSocket} WebSocket
 * @property {(run: () => void, ms: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now monotonic milliseconds
 * @property {() => number} random from 0 to 1
 */

/** @returns {World} of this browser */
export function defaultWorld() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    now: () => performance.now(),
    random: Math.random,
  };
}

/**
 * @typedef {object} Timing
 * @property {number} heartbeatMs between two pings
 * @property {number} pongTimeoutMs how long a pong may take
 * @property {number} connectTimeoutMs from opening to `connected`
 */

/**
 * How a connection ended.
 *
 * @typedef {object} End
 * @property {number} code the close code; 1006 if there was none
 * @property {string} reason the close reason, or why this side ended it
 * @property {Record<string, any> | null} bye the edge's last frame, if it was one
 */

/**
 * @typedef {object} Hooks
 * @property {() => Record<string, unknown>} firstFrame
 * @property {(frame: Record<string, any>) => void} onFrame every frame but `pong` and `bye`
 * @property {() => void} onPing a ping was sent
 * @property {() => void} onPong its pong was received
 * @property {(end: End) => void} onEnd
 */

/** @param {unknown} data @returns {Record<string, any> | null} */
function parseFrame(data) {
  if (typeof data !== "string" || data.length > MAX_FRAME_CHARS) return null;
  try {
    const frame = JSON.parse(data);
    return frame !== null && typeof frame === "object" && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** One attempt to connect, and the connection that it becomes. */
export class Connection {
  #ended = false;
  /** @type {Record<string, any> | null} */
  #bye = null;
  /** @type {unknown} */
  #heartbeat = null;
  /** @type {unknown} */
  #watchdog = null;
  /** @type {WebSocket} */
  #socket;
  #world;
  #timing;
  #hooks;

  /**
   * @param {string} url
   * @param {World} world
   * @param {Timing} timing
   * @param {Hooks} hooks
   * @throws {SyntaxError} if the URL is not one of a WebSocket
   */
  constructor(url, world, timing, hooks) {
    this.#world = world;
    this.#timing = timing;
    this.#hooks = hooks;
    this.#socket = new world.WebSocket(url);
    this.#socket.onopen = () => this.send(hooks.firstFrame());
    this.#socket.onmessage = (message) => this.#received(message.data);
    this.#socket.onclose = (close) => this.#end(close.code, close.reason);
    this.#watch(timing.connectTimeoutMs, "the edge did not answer in time");
  }

  /** @returns {number} bytes that the browser buffers for the network */
  get buffered() {
    return this.#socket.bufferedAmount;
  }

  /** The edge sent `connected`: the heartbeat begins. */
  established() {
    this.#disarm();
    this.#nextPing();
  }

  /** Pings now instead of at the next heartbeat. */
  check() {
    if (this.#watchdog !== null || this.#ended) return;
    this.#world.clearTimeout(this.#heartbeat);
    this.#ping();
  }

  /**
   * @param {Record<string, unknown>} frame
   * @returns {boolean} false if it was not sent; the connection is over then
   */
  send(frame) {
    if (this.#ended || this.#socket.readyState !== 1) return false;
    if (this.#socket.bufferedAmount > MAX_BUFFERED_BYTES) {
      this.abandon("the send buffer is full");
      return false;
    }
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Ends it from this side, at once: a dead network must not delay the end.
   *
   * @param {string} reason
   * @param {number} [code] 1000 for a normal close, otherwise 4000
   */
  abandon(reason, code = 4000) {
    if (this.#ended) return;
    this.#socket.close(code, reason.slice(0, 100));
    this.#end(1006, reason);
  }

  /** @param {unknown} data */
  #received(data) {
    if (this.#ended) return;
    const frame = parseFrame(data);
    if (frame === null) return this.abandon("the edge sent an invalid frame");
    if (frame.type === "bye") {
      this.#bye = frame;
    } else if (frame.type === "pong") {
      this.#disarm();
      this.#nextPing();
      this.#hooks.onPong();
    } else {
      this.#hooks.onFrame(frame);
    }
  }

  #nextPing() {
    this.#world.clearTimeout(this.#heartbeat);
    this.#heartbeat = this.#world.setTimeout(() => this.#ping(), this.#timing.heartbeatMs);
  }

  #ping() {
    if (!this.send({ type: "ping" })) return;
    this.#watch(this.#timing.pongTimeoutMs, "no pong within the timeout");
    this.#hooks.onPing();
  }

  /** @param {number} ms @param {string} reason */
  #watch(ms, reason) {
    this.#disarm();
    this.#watchdog = this.#world.setTimeout(() => this.abandon(reason), ms);
  }

  #disarm() {
    this.#world.clearTimeout(this.#watchdog);
    this.#watchdog = null;
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.#disarm();
    this.#world.clearTimeout(this.#heartbeat);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#hooks.onEnd({ code, reason, bye: this.#bye });
  }
}
