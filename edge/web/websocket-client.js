// The browser's client of the public protocol (edge/PROTOCOL.md).
//
// Promise: every handler sees each retained event of a stream once, in order, or
// one `gap` that names what is missing; a position counts only after the handlers
// of its event ran. It comes back by itself unless that can only fail again, and
// nothing in it grows without a bound.

import { Allowance } from "./allowance.js";
import { Backoff } from "./backoff.js";
import { Connection } from "./connection.js";
import { Positions, streamKey } from "./positions.js";
import { REASONS } from "./reasons.js";
import { TokenSource } from "./token-source.js";

/** Handlers of one type. */
const MAX_HANDLERS = 256;
/** Queues of one session: what the edge allows. */
const MAX_QUEUES = 128;
/** Characters of queues and positions in the first frame; the edge takes 4 KiB. */
const MAX_FIRST_FRAME_BYTES = 3_500;
/** Between two writes of positions to the storage, in milliseconds. */
const SAVE_EVERY_MS = 250;

/** @typedef {"disconnected" | "connecting" | "connected"} ClientState */

/** @typedef {import("./token-source.js").TokenCause} TokenCause */

/**
 * @typedef {object} Options
 * @property {string} url `ws://…/ws` or `wss://…/ws`
 * @property {import("./token-source.js").TokenOption} token a JWT, or where to get a fresh one for each connection
 * @property {string[]} [queues] followed from the start
 * @property {number} [heartbeatMs] between two pings, 30,000 by default
 * @property {number} [pongTimeoutMs] silence after a ping that means death, 10,000 by default
 * @property {number} [connectTimeoutMs] from opening to `connected`, 15,000 by default
 * @property {Pick<Storage, "getItem" | "setItem">} [storage] keeps positions over a reload, for example `sessionStorage`; use another `storageKey` for each user
 * @property {string} [storageKey] `belfry.positions` by default
 * @property {Partial<import("./connection.js").World>} [world] clock, timers, randomness and sockets, for tests
 */

/** @typedef {(detail: any) => unknown} Handler */

/** Keeps one user connected with an edge. */
export class DashboardWebSocketClient {
  /** @type {Map<string, Set<Handler>>} */
  #handlers = new Map();
  /** @type {ClientState} */
  #state = "disconnected";
  #positions = new Positions();
  #backoff = new Backoff();
  /** Queues that are wanted; @type {Set<string>} */
  #queues = new Set();
  /** Queues that the current connection has been asked for; @type {Set<string>} */
  #asked = new Set();
  /** @type {Connection | null} */
  #connection = null;
  #allowance = new Allowance(0);
  /** Counts attempts, so that a late token of an old one is dropped. */
  #attempt = 0;
  /** @type {TokenCause} */
  #cause = "connect";
  #token = "";
  #degraded = false;
  #notBefore = 0;
  /** @type {unknown} */
  #retryTimer = null;
  /** @type {unknown} */
  #refreshTimer = null;
  /** @type {unknown} */
  #askTimer = null;
  /** @type {unknown} */
  #saveTimer = null;
  #options;
  #world;
  #tokens;

  /** @param {Options} options */
  constructor(options) {
    this.#options = { heartbeatMs: 30_000, pongTimeoutMs: 10_000, connectTimeoutMs: 15_000, storageKey: "belfry.positions", ...options };
    this.#world = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (/** @type {() => void} */ run, /** @type {number} */ ms) => setTimeout(run, ms),
      clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
      now: () => performance.now(),
      random: Math.random,
      ...options.world,
    };
    this.#tokens = new TokenSource(options.token, this.#world);
    for (const queue of options.queues ?? []) this.#want(queue);
    try {
      this.#positions.restore(options.storage?.getItem(this.#options.storageKey) ?? null);
    } catch {
      // A storage that is switched off costs the resume over reloads, nothing else.
    }
  }

  /** @returns {ClientState} `connecting` includes waiting for the next attempt */
  get state() {
    return this.#state;
  }

  /** @returns {boolean} true while the edge has no notifier */
  get degraded() {
    return this.#degraded;
  }

  /**
   * Where the client stands in a stream: `user`, `everyone` or `queue:<id>`.
   *
   * @param {string} stream
   * @returns {string | undefined}
   */
  position(stream) {
    return this.#positions.position(stream);
  }

  /**
   * Calls `handler` for an event type, for `event` (all of them), or for `state`,
   * `gap`, `degraded`, `recovered`, `error`, `bye`, `connected`, `subscribed`,
   * `unsubscribed`, `refreshed`. What a handler throws is reported as `error` with
   * code `handler_failed`; promises are not waited for.
   *
   * @param {string} type
   * @param {Handler} handler
   * @returns {() => void} stops it
   * @throws {RangeError} at the 257th handler of a type
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    if (handlers.size >= MAX_HANDLERS) {
      throw new RangeError(`\`${type}\` has ${MAX_HANDLERS} handlers already: call what \`on\` returned when one is done`);
    }
    handlers.add(handler);
    this.#handlers.set(type, handlers);
    return () => void handlers.delete(handler);
  }

  /**
   * The same for the next time only.
   *
   * @param {string} type
   * @param {Handler} handler
   * @returns {() => void}
   */
  once(type, handler) {
    const off = this.on(type, (detail) => {
      off();
      return handler(detail);
    });
    return off;
  }

  /** Connects, and stays so. Twice is the same as once. */
  connect() {
    if (this.#state !== "disconnected") return;
    this.#cause = "connect";
    this.#listen(true);
    this.#setState("connecting", {});
    void this.#open();
  }

  /** Ends the connection and comes back no more. */
  close() {
    this.#stop("closed as asked");
  }

  /**
   * Follows a queue, over reconnects too. Twice is the same as once.
   *
   * @param {string} queue
   * @throws {RangeError} at the 129th queue
   */
  subscribe(queue) {
    this.#want(queue);
    this.#askForQueues();
  }

  /** @param {string} queue */
  unsubscribe(queue) {
    this.#queues.delete(queue);
    this.#positions.forget(`queue:${queue}`);
    this.#askForQueues();
  }

  /** @param {string} queue */
  #want(queue) {
    if (this.#queues.size >= MAX_QUEUES && !this.#queues.has(queue)) {
      throw new RangeError(`cannot follow \`${queue}\`: ${MAX_QUEUES} queues are followed already, unsubscribe from one`);
    }
    this.#queues.add(queue);
  }

  /** Brings what the edge was asked for in line with what is wanted, at its pace. */
  #askForQueues() {
    this.#world.clearTimeout(this.#askTimer);
    if (this.#state !== "connected") return;
    const gone = [...this.#asked].filter((queue) => !this.#queues.has(queue));
    const wanted = [...this.#queues].filter((queue) => !this.#asked.has(queue));
    for (const queue of [...gone, ...wanted]) {
      const inMs = this.#allowance.take(this.#world.now());
      if (inMs > 0) {
        this.#askTimer = this.#world.setTimeout(() => this.#askForQueues(), inMs);
        return;
      }
      const leave = this.#asked.delete(queue);
      const position = this.#positions.position(`queue:${queue}`);
      const frame = leave ? { type: "unsubscribe", queue } : { type: "subscribe", queue, ...(position && { position }) };
      if (!this.#connection?.send(frame)) return;
      if (!leave) this.#asked.add(queue);
    }
  }

  async #open() {
    const attempt = ++this.#attempt;
    try {
      this.#token = await this.#tokens.get(this.#cause);
    } catch (cause) {
      if (attempt !== this.#attempt) return;
      this.#emit("error", { type: "error", code: "token_failed", message: String(cause) });
      return this.#comeBack({ reason: "no token could be had" });
    }
    if (attempt !== this.#attempt) return;
    this.#asked.clear();
    this.#allowance = new Allowance(this.#world.now());
    try {
      this.#connection = new Connection(this.#options.url, this.#world, this.#options, {
        firstFrame: () => this.#firstFrame(),
        onFrame: (frame) => this.#onFrame(frame),
        onPong: () => this.#backoff.succeeded(),
        onEnd: (end) => this.#onEnd(end),
      });
    } catch (cause) {
      // A URL that is none, or `ws:` from an `https:` page: it stays so.
      this.#emit("error", { type: "error", code: "bad_url", message: `cannot connect to \`${this.#options.url}\`: ${cause}` });
      this.#stop("bad_url");
    }
  }

  /** As many queues as fit; the others are asked for after `connected`. */
  #firstFrame() {
    const all = this.#positions.toSend();
    /** @type {Record<string, string>} */
    const positions = {};
    for (const key of ["user", "everyone"]) if (all[key]) positions[key] = all[key];
    const queues = [];
    let bytes = 400;
    for (const queue of this.#queues) {
      const key = `queue:${queue}`;
      bytes += 2 * new TextEncoder().encode(JSON.stringify(queue)).length + (all[key]?.length ?? 0) + 16;
      if (bytes > MAX_FIRST_FRAME_BYTES) break;
      if (all[key]) positions[key] = all[key];
      queues.push(queue);
      this.#asked.add(queue);
    }
    return { type: "connect", token: this.#token, positions, queues };
  }

  /** @param {Record<string, any>} frame */
  #onFrame(frame) {
    switch (frame.type) {
      case "connected":
        return this.#onConnected(frame);
      case "batch":
        for (const event of Array.isArray(frame.events) ? frame.events : []) this.#onEvent(event);
        return;
      case "subscribed":
        this.#positions.stated(`queue:${frame.queue}`, frame.position);
        break;
      case "gap":
        this.#positions.gap(frame);
        this.#saveSoon();
        break;
      case "degraded":
      case "recovered":
        this.#degraded = frame.type === "degraded";
        break;
      case "refreshed":
        this.#refreshLater();
        break;
      case "unsubscribed":
      case "error":
        break;
      default:
        return this.#onEvent(frame);
    }
    this.#emit(frame.type, frame);
  }

  /** @param {Record<string, any>} frame */
  #onConnected(frame) {
    for (const [key, at] of Object.entries(frame.streams ?? {})) this.#positions.stated(key, at?.position);
    this.#saveSoon();
    this.#degraded = false;
    this.#connection?.established();
    this.#cause = "connect";
    this.#refreshLater();
    this.#setState("connected", {});
    this.#emit("connected", frame);
    this.#askForQueues();
  }

  /** @param {Record<string, any>} event */
  #onEvent(event) {
    // A handler of an earlier event of the batch may have closed the client.
    if (this.#connection === null) return;
    // What has neither id nor stream is a frame of a newer protocol.
    if (typeof event?.id !== "string" || typeof event.stream !== "string" || typeof event.type !== "string") return;
    // On its way when the queue was given up.
    if (event.stream === "queue" && !this.#queues.has(event.queue)) return;
    const verdict = this.#positions.judge(event);
    if (verdict === "duplicate") return;
    if (verdict === "hole") {
      const message = `offset ${event.offset} of \`${streamKey(event)}\` does not follow: coming back with the last good position`;
      this.#emit("error", { type: "error", code: "order_broken", message });
      return this.#connection.abandon("order broken");
    }
    this.#emit(event.type, event);
    this.#emit("event", event);
    this.#positions.commit(event);
    if (event.offset !== undefined) {
      this.#backoff.succeeded();
      this.#saveSoon();
    }
  }

  /** @param {import("./connection.js").End} end */
  #onEnd(end) {
    this.#connection = null;
    this.#world.clearTimeout(this.#refreshTimer);
    const { bye } = end;
    const code = typeof bye?.code === "number" ? bye.code : end.code;
    const reasons = REASONS.filter((reason) => reason.closeCode === code);
    const named = reasons.find((reason) => reason.name === bye?.reason) ?? reasons[0];
    const needsToken = named?.advice === "fresh_token";
    const detail = { code, reason: bye?.reason ?? named?.name ?? end.reason, sentence: bye?.message ?? named?.sentence ?? end.reason };
    this.#cause = needsToken ? (code === 4002 ? "expired" : "rejected") : "connect";
    if (bye !== null) this.#emit("bye", bye);
    if (this.#state === "disconnected") return;
    const never = reasons.length > 0 && reasons.every((reason) => reason.advice === "never");
    const wanted = typeof bye?.reconnect === "boolean" ? bye.reconnect : !never;
    // The same string would be refused again.
    if (!wanted || (needsToken && this.#tokens.fixed)) return this.#stop(detail.reason, detail);
    this.#comeBack(detail, bye?.retryAfterMs);
  }

  /**
   * @param {Record<string, unknown>} detail
   * @param {number} [retryAfterMs]
   */
  #comeBack(detail, retryAfterMs) {
    const waitMs = this.#backoff.next(this.#world.random(), retryAfterMs);
    this.#notBefore = this.#world.now() + (retryAfterMs ?? 0);
    this.#degraded = false;
    this.#setState("connecting", { ...detail, retryInMs: waitMs });
    this.#openIn(waitMs);
  }

  /** @param {number} waitMs */
  #openIn(waitMs) {
    this.#world.clearTimeout(this.#retryTimer);
    this.#retryTimer = this.#world.setTimeout(() => {
      this.#retryTimer = null;
      void this.#open();
    }, waitMs);
  }

  /**
   * @param {string} reason
   * @param {Record<string, unknown>} [detail]
   */
  #stop(reason, detail = {}) {
    if (this.#state === "disconnected") return;
    this.#attempt += 1;
    this.#listen(false);
    for (const timer of [this.#retryTimer, this.#refreshTimer, this.#askTimer]) this.#world.clearTimeout(timer);
    this.#retryTimer = null;
    this.#save();
    this.#setState("disconnected", { reason, ...detail });
    this.#connection?.abandon(reason, 1000);
  }

  #refreshLater() {
    this.#world.clearTimeout(this.#refreshTimer);
    const inMs = this.#tokens.refreshInMs(this.#token);
    if (inMs === null) return;
    this.#refreshTimer = this.#world.setTimeout(() => void this.#refresh(), inMs);
  }

  /** Without a new token the edge ends the connection, and the way back asks again. */
  async #refresh() {
    const attempt = this.#attempt;
    this.#cause = "refresh";
    try {
      const token = await this.#tokens.get(this.#cause);
      if (attempt !== this.#attempt || this.#state !== "connected") return;
      this.#token = token;
      this.#connection?.send({ type: "refresh", token });
    } catch (cause) {
      this.#emit("error", { type: "error", code: "token_failed", message: String(cause) });
    }
  }

  /** @param {ClientState} state @param {Record<string, unknown>} detail */
  #setState(state, detail) {
    this.#state = state;
    this.#emit("state", { state, ...detail });
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) {
      try {
        handler(detail);
      } catch (cause) {
        console.error(cause);
        const failure = { type: "error", code: "handler_failed", message: `a handler of \`${type}\` threw: ${cause}` };
        if (type !== "error") this.#emit("error", failure);
      }
    }
  }

  #saveSoon() {
    if (!this.#options.storage || this.#saveTimer !== null) return;
    this.#saveTimer = this.#world.setTimeout(() => this.#save(), SAVE_EVERY_MS);
  }

  #save() {
    this.#world.clearTimeout(this.#saveTimer);
    this.#saveTimer = null;
    try {
      this.#options.storage?.setItem(this.#options.storageKey, this.#positions.save());
    } catch {
      // Full or switched off: the next page sees some events again, none is lost.
    }
  }

  // The network or the person came back: do not sit out a long wait, but never
  // come earlier than the server asked for.
  #wake = (/** @type {Event} */ event) => {
    if (event.type === "visibilitychange" && document.visibilityState === "hidden") return this.#save();
    this.#connection?.check();
    if (this.#retryTimer !== null) this.#openIn(Math.max(0, this.#notBefore - this.#world.now()));
  };
  #leave = () => this.#save();

  /** @param {boolean} on */
  #listen(on) {
    if (typeof window === "undefined") return;
    const change = on ? "addEventListener" : "removeEventListener";
    window[change]("online", this.#wake);
    window[change]("offline", this.#wake);
    window[change]("pagehide", this.#leave);
    document[change]("visibilitychange", this.#wake);
  }
}

if (typeof window !== "undefined") Object.assign(window, { DashboardWebSocketClient });
