// One WebSocket connection: first frame, heartbeat, watchdog, and exactly one end.
//
// Promise: `onEnd` is called once and nothing is reported after it; every wait has a
// limit; at most `MAX_BUFFERED_BYTES` are buffered for the network. Whatever the edge
// sends shows that it lives; one that has answered a ping before is given up
// `pongTimeoutMs` after one that it does not answer.

/** Bytes that the browser may buffer for the network. */
const MAX_BUFFERED_BYTES = 64 * 1024;
/** The first ping follows `connected` by this at most: from its pong on silence is noticed. */
const FIRST_PING_MS = 1_000;
/** An edge that has never answered a ping is given up after this much silence, in milliseconds. */
const UNPROVEN_TIMEOUT_MS = 65_000;
/** The same after the page said that its network may be gone. */
const CHECK_TIMEOUT_MS = 2_000;
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
    now: () => globalThis.performance?.now() ?? Date.now(),
    random: Math.random,
  };
}

/**
 * @typedef {object} Timing
 * @property {number} heartbeatInterval between two pings, in milliseconds
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
  /** `connected` came. */
  #live = false;
  /** A ping was answered. */
  #proven = false;
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
    this.#live = true;
    this.#disarm();
    this.#pingIn(Math.min(FIRST_PING_MS, this.#timing.heartbeatInterval));
  }

  /**
   * Asks for a sign of life now. The network may be gone: a live connection has 2 s
   * to answer, one that is still being made begins again.
   */
  check() {
    if (this.#ended) return;
    if (!this.#live) return this.abandon("the network changed");
    this.#world.clearTimeout(this.#heartbeat);
    this.#disarm();
    this.#ping(this.#proven ? CHECK_TIMEOUT_MS : UNPROVEN_TIMEOUT_MS);
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
      this.#proven = true;
      this.#alive();
      this.#hooks.onPong();
    } else {
      this.#alive();
      this.#hooks.onFrame(frame);
    }
  }

  /** The edge sent something: what it owes is not overdue any more. */
  #alive() {
    if (this.#live && this.#watchdog !== null) this.#disarm();
  }

  /** @param {number} ms */
  #pingIn(ms) {
    this.#world.clearTimeout(this.#heartbeat);
    this.#heartbeat = this.#world.setTimeout(() => this.#ping(this.#proven ? this.#timing.pongTimeoutMs : UNPROVEN_TIMEOUT_MS), ms);
  }

  /** Pings go on while a pong is due: the edge wants a sign of life, too. @param {number} timeoutMs */
  #ping(timeoutMs) {
    if (!this.send({ type: "ping" })) return;
    this.#pingIn(this.#timing.heartbeatInterval);
    if (this.#watchdog === null) this.#watch(timeoutMs, "no pong within the timeout");
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
