// The browser's client of the public protocol (edge/PROTOCOL.md).
//
// Promise: every handler sees each retained event of a stream once, in order, or
// one `gap` that names what is missing; a position counts only after the handlers
// of its event ran, and `delivered` is reported only after that. It comes back by
// itself unless that can only fail again, and nothing in it grows without a bound.

import { Backoff } from "./backoff.js";
import { Connection } from "./connection.js";
import { judgeEnd } from "./ending.js";
import { Handlers } from "./handlers.js";
import { PageSignals } from "./page-signals.js";
import { Positions, streamKey } from "./positions.js";
import { PresenceBook } from "./presence.js";
import { isId } from "./receipts.js";
import { Reporter } from "./reporter.js";
import { TokenSource } from "./token-source.js";
import { Wishes } from "./wishes.js";

/** Between two writes of positions to the storage, in milliseconds. */
const SAVE_EVERY_MS = 250;

/** @typedef {"disconnected" | "connecting" | "connected"} ClientState */

/** @typedef {import("./token-source.js").TokenCause} TokenCause */
/** @typedef {import("./handlers.js").Handler} Handler */
/** @typedef {import("./receipts.js").ReceiptState} ReceiptState */
/** @typedef {import("./presence.js").PresenceView} PresenceView */

/**
 * @typedef {object} Options
 * @property {string} url `ws://…/ws` or `wss://…/ws`
 * @property {import("./token-source.js").TokenOption} token a JWT, or where to get a fresh one for each connection
 * @property {string[]} [queues] followed from the start
 * @property {number} [heartbeatMs] between two pings, 25,000 by default: with `pongTimeoutMs` a dead edge is noticed within 35 s
 * @property {number} [pongTimeoutMs] silence after a ping that means death, 10,000 by default
 * @property {number} [connectTimeoutMs] from opening to `connected`, 15,000 by default
 * @property {Pick<Storage, "getItem" | "setItem">} [storage] keeps positions over a reload, for example `sessionStorage`; use another `storageKey` for each user
 * @property {string} [storageKey] `belfry.positions` by default
 * @property {string} [device] names this device in receipts: 1 to 64 printable ASCII characters; the session's id by default
 * @property {boolean} [receipts] `false`: nothing is reported of what becomes of events
 * @property {Partial<import("./connection.js").World>} [world] clock, timers, randomness and sockets, for tests
 */

/** Keeps one user connected with an edge. */
export class DashboardWebSocketClient {
  #handlers = new Handlers();
  /** @type {ClientState} */
  #state = "disconnected";
  #positions = new Positions();
  #backoff = new Backoff();
  #wishes = new Wishes();
  #presence = new PresenceBook();
  /** @type {Connection | null} */
  #connection = null;
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
  #reporter;
  #signals = new PageSignals({ onBack: () => this.#back(), onLeave: () => this.#leave() });

  /** @param {Options} options */
  constructor(options) {
    this.#options = { heartbeatMs: 25_000, pongTimeoutMs: 10_000, connectTimeoutMs: 15_000, storageKey: "belfry.positions", receipts: true, ...options };
    this.#world = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (/** @type {() => void} */ run, /** @type {number} */ ms) => setTimeout(run, ms),
      clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
      now: () => performance.now(),
      random: Math.random,
      ...options.world,
    };
    this.#tokens = new TokenSource(options.token, this.#world);
    // `delivered` says that the position was kept: so it is kept before.
    this.#reporter = new Reporter(this.#world, () => this.#saveTimer !== null && this.#save());
    for (const queue of options.queues ?? []) this.#wishes.follow(queue);
    try {
      this.#positions.restore(options.storage?.getItem(this.#options.storageKey) ?? null);
      if (this.#options.receipts) this.#reporter.restore(options.storage?.getItem(this.#receiptsKey) ?? null);
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
   * `unsubscribed`, `refreshed`, `retract`, `presence`. What a handler throws is
   * reported as `error` with code `handler_failed`; promises are not waited for.
   *
   * @param {string} type
   * @param {Handler} handler
   * @returns {() => void} stops it
   * @throws {RangeError} at the 257th handler of a type
   */
  on(type, handler) {
    return this.#handlers.on(type, handler);
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
    this.#signals.listen(true);
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
    this.#wishes.follow(queue);
    this.#ask();
  }

  /** @param {string} queue */
  unsubscribe(queue) {
    this.#wishes.leave(queue);
    this.#positions.forget(`queue:${queue}`);
    this.#ask();
  }

  /**
   * Tells `presence` who else follows a queue: all of them first, then whoever
   * comes or goes. Begins when the queue is followed, and again whenever it is.
   *
   * @param {string} queue one that is followed, or will be
   * @throws {RangeError} at the 129th queue
   */
  watchPresence(queue) {
    this.#wishes.watch(queue);
    this.#ask();
  }

  /** @param {string} queue */
  unwatchPresence(queue) {
    this.#wishes.unwatch(queue);
    this.#presence.forget(queue);
    this.#ask();
  }

  /**
   * Who follows a queue, as far as the edge has said.
   *
   * @param {string} queue
   * @returns {PresenceView | undefined}
   */
  presence(queue) {
    return this.#presence.view(queue);
  }

  /**
   * Reports what became of a stored event on this device: `displayed` when it was
   * in front of the person's eyes, `dismissed` when they closed it unopened,
   * `read` when they opened it. The last two take it away from their other
   * devices. `delivered` is reported without being told. Twice is the same as
   * once; it is kept over a reconnect.
   *
   * @param {string} id the event's
   * @param {ReceiptState} state
   * @throws {RangeError} if there is no such state, or the id is none
   */
  receipt(id, state) {
    if (this.#options.receipts && this.#reporter.report(id, state)) this.#saveSoon();
  }

  /** @returns {number} receipts that were given up because too many waited */
  get droppedReceipts() {
    return this.#reporter.dropped;
  }

  /** Brings what the edge was asked for in line with what is wanted, at its pace. */
  #ask() {
    this.#world.clearTimeout(this.#askTimer);
    while (this.#state === "connected") {
      const next = this.#wishes.next(this.#world.now(), (stream) => this.#positions.position(stream));
      if (next === null) return;
      if ("inMs" in next) {
        this.#askTimer = this.#world.setTimeout(() => this.#ask(), next.inMs);
        return;
      }
      if (!this.#connection?.send(next.frame)) return;
      this.#wishes.sent(next.frame);
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
    this.#wishes.begin(this.#world.now());
    try {
      this.#connection = new Connection(this.#options.url, this.#world, this.#options, {
        firstFrame: () => this.#firstFrame(),
        onFrame: (frame) => this.#onFrame(frame),
        onPing: () => this.#reporter.pinged(),
        onPong: () => {
          this.#backoff.succeeded();
          this.#reporter.answered();
        },
        onEnd: (end) => this.#onEnd(end),
      });
    } catch (cause) {
      // A URL that is none, or `ws:` from an `https:` page: it stays so.
      this.#emit("error", { type: "error", code: "bad_url", message: `cannot connect to \`${this.#options.url}\`: ${cause}` });
      this.#stop("bad_url");
    }
  }

  #firstFrame() {
    const { device } = this.#options;
    return { type: "connect", token: this.#token, ...(device && { device }), ...this.#wishes.first(this.#positions.toSend()) };
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
        this.#wishes.granted(frame.queue);
        break;
      case "unsubscribed":
        this.#wishes.ended(frame.queue);
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
      case "presence": {
        // Perhaps on its way when the watch was given up.
        const news = this.#wishes.watches(frame.queue) ? this.#presence.apply(frame) : null;
        if (news !== null) this.#emit("presence", news);
        return;
      }
      case "error":
        // An edge that is too old refuses the kinds of frames it does not know.
        if (frame.code === "bad_request" && frame.field === "type") {
          this.#reporter.end();
          this.#wishes.withoutPresence();
        }
        // Of what can be too much, only receipts are refused: the rest ends the connection.
        if (frame.code === "rate_limited") this.#reporter.refused(frame.retryAfterMs);
        break;
      case "retract":
        break;
      default:
        return this.#onEvent(frame);
    }
    this.#emit(frame.type, frame);
    if (frame.type === "subscribed") this.#ask();
  }

  /** @param {Record<string, any>} frame */
  #onConnected(frame) {
    for (const [key, at] of Object.entries(frame.streams ?? {})) {
      this.#positions.stated(key, at?.position);
      if (key.startsWith("queue:")) this.#wishes.granted(key.slice(6));
    }
    this.#saveSoon();
    this.#degraded = false;
    this.#connection?.established();
    this.#cause = "connect";
    this.#refreshLater();
    this.#setState("connected", {});
    this.#emit("connected", frame);
    this.#ask();
    this.#reporter.begin(this.#connection);
  }

  /** @param {Record<string, any>} event */
  #onEvent(event) {
    // A handler of an earlier event of the batch may have closed the client.
    if (this.#connection === null) return;
    // What has neither id nor stream is a frame of a newer protocol.
    if (typeof event?.id !== "string" || typeof event.stream !== "string" || typeof event.type !== "string") return;
    // On its way when the queue was given up.
    if (event.stream === "queue" && !this.#wishes.follows(event.queue)) return;
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
      if (isId(event.id)) this.receipt(event.id, "delivered");
    }
  }

  /** @param {import("./connection.js").End} end */
  #onEnd(end) {
    this.#connection = null;
    this.#reporter.end();
    this.#world.clearTimeout(this.#refreshTimer);
    const { comeBack, retryAfterMs, cause, detail } = judgeEnd(end, this.#tokens.fixed);
    this.#cause = cause;
    if (end.bye !== null) this.#emit("bye", end.bye);
    if (this.#state === "disconnected") return;
    if (comeBack) this.#comeBack(detail, retryAfterMs);
    else this.#stop(detail.reason, detail);
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
    this.#reporter.flush();
    this.#signals.listen(false);
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
    this.#handlers.emit(type, detail);
  }

  /** Where receipts wait for the next page. */
  get #receiptsKey() {
    return `${this.#options.storageKey}.receipts`;
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
      if (this.#options.receipts) this.#options.storage?.setItem(this.#receiptsKey, this.#reporter.save());
    } catch {
      // Full or switched off: the next page sees some events again, none is lost.
    }
  }

  /** Do not sit out a long wait, but never come earlier than the server asked for. */
  #back() {
    this.#connection?.check();
    if (this.#retryTimer !== null) this.#openIn(Math.max(0, this.#notBefore - this.#world.now()));
  }

  #leave() {
    this.#reporter.flush();
    this.#save();
  }
}

if (typeof window !== "undefined") Object.assign(window, { DashboardWebSocketClient });
