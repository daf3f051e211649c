// The browser's client of the public protocol (edge/PROTOCOL.md).
//
// Promise: every handler sees each retained event of a stream once, in order, or
// one `gap` that names what is missing; a position counts only after the handlers
// of its event ran, and `delivered` is reported only after that; a stream that is
// not followed has no position. It reconnects by itself unless that can only fail
// again, and nothing in it grows without a bound.

import { Backoff } from "./backoff.js";
import { closePolicy } from "./close-policy.js";
import { withDefaults } from "./client-options.js";
import { Connection, defaultWorld } from "./connection.js";
import { DesiredState } from "./desired-state.js";
import { checkName } from "./event-names.js";
import { DOCUMENT_STATUS, PDF_STATUS, WS_MESSAGE_TYPES } from "./event-types.js";
import { Handlers } from "./handlers.js";
import { OriginCheck } from "./origin-check.js";
import { PageLifecycle } from "./page-lifecycle.js";
import { Positions, streamKey } from "./positions.js";
import { PresenceTable } from "./presence.js";
import { ReceiptSender } from "./receipt-sender.js";
import { isEventId } from "./receipts.js";
import { announce, publish, registry } from "./registry.js";
import { SavedState } from "./saved-state.js";
import { MAX_TIMER_MS, TokenSource } from "./token-source.js";

/** A connection that lived this long works, even if it ended before its first pong, in milliseconds. */
const STABLE_AFTER_MS = 10_000;

/** Frames after which there may be something to request. */
const REQUESTS_AFTER = new Set(["subscribed", "unsubscribed", "refreshed"]);

/** @typedef {"disconnected" | "connecting" | "connected"} ClientState */

/** @typedef {import("./client-options.js").Options} Options */
/** @typedef {import("./token-source.js").TokenCause} TokenCause */
/** @typedef {import("./handlers.js").Handler} Handler */
/** @typedef {import("./receipts.js").ReceiptState} ReceiptState */
/** @typedef {import("./presence.js").PresenceView} PresenceView */

/** Keeps one user connected to an edge. */
export class DashboardWebSocketClient {
  #handlers = new Handlers();
  /** @type {ClientState} */
  #state = "disconnected";
  #positions = new Positions();
  #backoff = new Backoff();
  #desired = new DesiredState();
  #presence = new PresenceTable();
  /** @type {Connection | null} */
  #connection = null;
  /** Counts attempts, so that a late token of an old one is dropped. */
  #attempt = 0;
  /** When the edge said `connected`; null before. @type {number | null} */
  #connectedAt = null;
  /** @type {TokenCause} */
  #cause = "connect";
  #token = "";
  #degraded = false;
  #originCheck = new OriginCheck();
  #notBefore = 0;
  /** @type {unknown} */
  #retryTimer = null;
  /** @type {unknown} */
  #refreshTimer = null;
  /** @type {unknown} */
  #requestTimer = null;
  #options;
  #tabs;
  #world;
  #tokens;
  #receiptSender;
  #saved;
  #lifecycle = new PageLifecycle({ onResume: () => this.#onResume(), onHide: () => this.#onHide() });

  /** @param {Options} options */
  constructor(options) {
    this.#options = withDefaults(options);
    this.#world = { ...defaultWorld(), ...options.world };
    this.#tabs = (options.share && registry.share?.(options, { positions: () => this.#positions.save(), retry: () => this.#skipWait(), error: (frame) => this.#handlers.emit("error", frame) })) || null;
    if (this.#tabs) {
      // The tab that has the connection has the token, and knows whether the edge answers.
      this.#world.WebSocket = /** @type {any} */ (this.#tabs.WebSocket);
      this.#options.connectTimeoutMs = MAX_TIMER_MS;
    }
    this.#tokens = new TokenSource(this.#tabs ? "shared" : options.token, this.#world);
    this.#saved = new SavedState(this.#world, options.storage);
    // `delivered` says that the position is kept, so it is saved first.
    this.#receiptSender = new ReceiptSender(this.#world, () => this.#saved.flush());
    this.#saved.keep(this.#options.storageKey, this.#positions);
    if (this.#options.receipts) this.#saved.keep(`${this.#options.storageKey}.receipts`, this.#receiptSender);
    for (const stream of ["user", "everyone"]) this.#positions.resume(stream);
    for (const queue of options.queues ?? []) this.#follow(queue);
    if (options.toasts) announce(this, options.toasts);
  }

  /** @returns {ClientState} `connecting` includes waiting for the next attempt */
  get state() {
    return this.#state;
  }

  /** @returns {boolean} true while the edge has no notifier */
  get degraded() {
    return this.#degraded;
  }

  /** `undefined` if it is not followed. @param {string} stream `user`, `everyone` or `queue:<id>` @returns {string | undefined} */
  position(stream) {
    return this.#positions.position(stream);
  }

  /**
   * Calls `handler` for an event type, for `*` (all of them) or for a name of the
   * client's own: see event-names.js. What it throws is reported as `error` with code
   * `handler_failed`; promises are not awaited.
   *
   * @param {string} type
   * @param {Handler} handler
   * @returns {() => void} removes the handler
   * @throws {TypeError} if there is no such name
   * @throws {RangeError} at the 257th handler of a type
   */
  on(type, handler) {
    checkName(type);
    return this.#handlers.on(type, handler);
  }

  /** The same, for the next time only. @param {string} type @param {Handler} handler @returns {() => void} */
  once(type, handler) {
    checkName(type);
    return this.#handlers.once(type, handler);
  }

  /** Connects, and reconnects until `close`. Calling it again changes nothing. */
  connect() {
    if (this.#state !== "disconnected") return;
    this.#cause = "connect";
    this.#lifecycle.listen(true);
    this.#tabs?.start();
    this.#setState("connecting", {});
    void this.#open();
  }

  /** Tries again now instead of after the rest of the wait; the same as `connect` if it had ended. */
  reconnect() {
    this.connect();
    this.#onResume();
  }

  /** Ends the connection and does not reconnect. */
  close() {
    this.#stop("closed by the page");
  }

  /**
   * Follows a queue, over reconnects too. Calling it again changes nothing, unless
   * the edge refused the queue or took it back: then it is requested again.
   *
   * @param {string} queue
   * @throws {RangeError} at the 129th queue
   */
  subscribe(queue) {
    this.#follow(queue);
    this.#request();
  }

  /** Leaves a queue and forgets its position. @param {string} queue */
  unsubscribe(queue) {
    this.#desired.unfollow(queue);
    this.#positions.forget(`queue:${queue}`);
    this.#request();
  }

  /**
   * Emits `presence` with the users who follow a queue: all of them first, then
   * each one who joins or leaves. Starts whenever the queue becomes active.
   *
   * @param {string} queue one that is followed, or will be
   * @throws {RangeError} at the 129th queue
   */
  watchPresence(queue) {
    this.#desired.watch(queue);
    this.#request();
  }

  /** @param {string} queue */
  unwatchPresence(queue) {
    this.#desired.unwatch(queue);
    this.#presence.forget(queue);
    this.#request();
  }

  /**
   * The users who follow a queue, as far as the edge has sent them.
   *
   * @param {string} queue
   * @returns {PresenceView | undefined}
   */
  presence(queue) {
    return this.#presence.view(queue);
  }

  /**
   * Reports the state of a stored event on this device: `displayed` when the person
   * could see it, `dismissed` when they closed it unopened, `read` when they opened
   * it. The last two retract it on their other devices. The client reports
   * `delivered` by itself. Receipts are idempotent and survive a reconnect.
   *
   * @param {string} id the event's
   * @param {ReceiptState} state
   * @throws {RangeError} if the state or the id is not valid
   */
  receipt(id, state) {
    if (this.#options.receipts && this.#receiptSender.report(id, state)) this.#saved.saveSoon();
  }

  /** @returns {number} receipts that were dropped because too many waited */
  get droppedReceipts() {
    return this.#receiptSender.dropped;
  }

  /** @param {string} queue */
  #follow(queue) {
    if (this.#desired.follow(queue)) this.#positions.resume(`queue:${queue}`);
  }

  /** Sends the requests that make the active state the desired one, within the rate limit. */
  #request() {
    this.#world.clearTimeout(this.#requestTimer);
    while (this.#state === "connected") {
      const next = this.#desired.next(this.#world.now(), (stream) => this.#positions.position(stream));
      if (next === null) return;
      if ("inMs" in next) {
        this.#requestTimer = this.#world.setTimeout(() => this.#request(), next.inMs);
        return;
      }
      if (!this.#connection?.send(next.frame)) return;
      this.#desired.sent(next.frame);
    }
  }

  async #open() {
    const attempt = ++this.#attempt;
    try {
      this.#token = await this.#tokens.get(this.#cause);
    } catch (cause) {
      if (attempt !== this.#attempt) return;
      this.#handlers.emit("error", { type: "error", code: "token_failed", message: String(cause) });
      return this.#reconnect({ reason: "the token function failed" });
    }
    if (attempt !== this.#attempt) return;
    this.#desired.begin(this.#world.now());
    try {
      this.#connection = new Connection(this.#options.url, this.#world, this.#options, {
        firstFrame: () => this.#firstFrame(),
        onFrame: (frame) => this.#onFrame(frame),
        onPing: () => this.#receiptSender.pingSent(),
        onPong: () => {
          this.#backoff.succeeded();
          this.#receiptSender.pongReceived();
        },
        onEnd: (end) => this.#onEnd(end),
      });
    } catch (cause) {
      // Not a URL, or `ws:` from an `https:` page: trying again cannot help.
      this.#handlers.emit("error", { type: "error", code: "bad_url", message: `cannot connect to \`${this.#options.url}\`: ${cause}` });
      this.#stop("bad_url");
    }
  }

  #firstFrame() {
    const { device } = this.#options;
    return { type: "connect", token: this.#token, ...(device && { device }), ...this.#desired.firstRequest(this.#positions.toSend()) };
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
        // It was left before the edge answered.
        if (!this.#follows(`queue:${frame.queue}`)) return;
        this.#kept(this.#positions.stated(`queue:${frame.queue}`, frame.position), `queue:${frame.queue}`);
        this.#desired.activated(frame.queue);
        break;
      case "unsubscribed":
        this.#desired.deactivated(frame.queue);
        break;
      case "gap":
        if (!this.#follows(streamKey(frame))) return;
        this.#kept(this.#positions.gap(frame), streamKey(frame));
        this.#saved.saveSoon();
        break;
      case "degraded":
      case "recovered":
        this.#degraded = frame.type === "degraded";
        break;
      case "refreshed":
        this.#refreshLater(frame.expiresInMs);
        this.#desired.rightsChanged();
        break;
      case "presence": {
        // Perhaps on its way when the watch ended.
        const update = this.#desired.watches(frame.queue) ? this.#presence.apply(frame) : null;
        if (update !== null) this.#handlers.emit("presence", update);
        return;
      }
      case "error":
        this.#onError(frame);
        break;
      case "retract":
        break;
      default:
        return this.#onEvent(frame);
    }
    this.#handlers.emit(frame.type, frame);
    if (REQUESTS_AFTER.has(frame.type)) this.#request();
  }

  /** A request was refused; the connection lives. @param {Record<string, any>} frame */
  #onError({ code, field, queue, retryAfterMs }) {
    // An edge that is too old refuses the types of frames that it does not know.
    if (code === "bad_request" && field === "type") {
      this.#receiptSender.end();
      this.#desired.withoutPresence();
    }
    // `bad_request` refuses to leave what is not followed, or its presence.
    if (field === "queue" && code !== "bad_request" && typeof queue === "string") this.#desired.refused(queue);
    // Only receipts are refused for their rate: any other excess ends the connection.
    if (code === "rate_limited") this.#receiptSender.refused(retryAfterMs);
  }

  /** @param {Record<string, any>} frame */
  #onConnected(frame) {
    for (const [key, at] of Object.entries(frame.streams ?? {})) {
      if (this.#follows(key)) this.#kept(this.#positions.stated(key, at?.position), key);
      if (key.startsWith("queue:")) this.#desired.activated(key.slice(6));
    }
    this.#saved.saveSoon();
    this.#degraded = false;
    this.#connection?.established();
    this.#connectedAt = this.#world.now();
    this.#cause = "connect";
    this.#refreshLater(frame.expiresInMs);
    this.#setState("connected", {});
    this.#handlers.emit("connected", frame);
    this.#request();
    this.#receiptSender.begin(this.#connection);
  }

  /** @param {string} key of a stream */
  #follows(key) {
    return key.startsWith("queue:") ? this.#desired.followOf(key.slice(6)) !== undefined : key === "user" || key === "everyone";
  }

  /** Reports a position that found no room. @param {boolean} kept @param {string} key */
  #kept(kept, key) {
    const message = `the position of \`${key}\` is not kept, its events are lost after a reconnect: reload what the page shows of it`;
    if (!kept) this.#handlers.emit("error", { type: "error", code: "position_not_kept", message });
  }

  /** @param {Record<string, any>} event */
  #onEvent(event) {
    // A handler of an earlier event of the batch may have closed the client.
    if (this.#connection === null) return;
    // A frame without id or stream is one of a newer protocol.
    if (typeof event?.id !== "string" || typeof event.stream !== "string" || typeof event.type !== "string") return;
    const key = streamKey(event);
    const follow = event.stream === "queue" ? this.#desired.followOf(event.queue) : 0;
    // On its way when the queue was left.
    if (follow === undefined) return;
    const verdict = this.#positions.check(event);
    if (verdict === "duplicate") return;
    if (verdict === "hole") {
      const message = `offset ${event.offset} of \`${key}\` does not follow the last one: reconnecting with the last good position`;
      this.#handlers.emit("error", { type: "error", code: "order_broken", message });
      return this.#connection.abandon("order broken");
    }
    registry.link?.(event, this.#options.url);
    this.#handlers.emit(event.type, event);
    this.#handlers.emit("event", event);
    this.#handlers.emit("*", event);
    // A handler may have left the queue, or followed it again from another position.
    const current = event.stream === "queue" ? this.#desired.followOf(event.queue) : 0;
    if (follow === current && this.#follows(key)) this.#kept(this.#positions.commit(event), key);
    if (event.offset !== undefined) {
      this.#backoff.succeeded();
      this.#saved.saveSoon();
      if (isEventId(event.id)) this.receipt(event.id, "delivered");
    }
  }

  /** @param {import("./connection.js").End} end */
  #onEnd(end) {
    this.#connection = null;
    this.#receiptSender.end();
    this.#world.clearTimeout(this.#refreshTimer);
    // Not opened, or cut before `connected`: the edge knows whether it is the origin.
    if (this.#connectedAt === null) end.bye ?? this.#tabs ?? this.#originCheck.run(this.#options.url, (error) => this.#state === "connecting" && this.#handlers.emit("error", error));
    else if (this.#world.now() - this.#connectedAt >= STABLE_AFTER_MS) this.#backoff.succeeded();
    this.#connectedAt = null;
    const { reconnect, retryAfterMs, cause, detail } = closePolicy(end, this.#tokens.fixed);
    this.#cause = cause;
    if (end.bye !== null) this.#handlers.emit("bye", end.bye);
    if (this.#state === "disconnected") return;
    if (reconnect) this.#reconnect(detail, retryAfterMs);
    else this.#stop(detail.reason, detail);
  }

  /**
   * @param {Record<string, unknown>} detail
   * @param {number} [retryAfterMs]
   */
  #reconnect(detail, retryAfterMs) {
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
    this.#receiptSender.flush();
    this.#lifecycle.listen(false);
    for (const timer of [this.#retryTimer, this.#refreshTimer, this.#requestTimer]) this.#world.clearTimeout(timer);
    this.#retryTimer = null;
    this.#saved.save();
    this.#setState("disconnected", { reason, ...detail });
    this.#connection?.abandon(reason, 1000);
    this.#tabs?.stop();
  }

  /** @param {unknown} expiresInMs what the edge said of the token */
  #refreshLater(expiresInMs) {
    this.#world.clearTimeout(this.#refreshTimer);
    const inMs = this.#tokens.refreshInMs(this.#token, expiresInMs);
    if (inMs === null) return;
    this.#refreshTimer = this.#world.setTimeout(() => void this.#refresh(), inMs);
  }

  /** If it fails, the edge ends the connection in time and the reconnect asks for a token again. */
  async #refresh() {
    const attempt = this.#attempt;
    this.#cause = "refresh";
    try {
      const token = await this.#tokens.get(this.#cause);
      if (attempt !== this.#attempt || this.#state !== "connected") return;
      this.#token = token;
      this.#connection?.send({ type: "refresh", token });
    } catch (cause) {
      this.#handlers.emit("error", { type: "error", code: "token_failed", message: String(cause) });
    }
  }

  /** @param {ClientState} state @param {Record<string, unknown>} detail */
  #setState(state, detail) {
    const lost = this.#state === "connected" || state === "disconnected";
    this.#state = state;
    this.#handlers.emit("state", { state, ...detail });
    if (lost && state !== "connected") this.#handlers.emit("disconnected", { state, ...detail });
  }

  /** Skips the rest of a backoff, but never what the edge requested. */
  #onResume() {
    this.#connection?.check();
    this.#skipWait();
  }

  #skipWait() {
    if (this.#retryTimer !== null) this.#openIn(Math.max(0, this.#notBefore - this.#world.now()));
  }

  #onHide() {
    this.#receiptSender.flush();
    this.#saved.save();
  }
}

registry.Client ??= DashboardWebSocketClient;
publish({ DashboardWebSocketClient, WS_MESSAGE_TYPES, DOCUMENT_STATUS, PDF_STATUS });
