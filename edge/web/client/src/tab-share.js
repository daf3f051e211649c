// One connection for all tabs of a user in one browser: the tab that holds the Web
// Lock is the leader and has it, the others talk to it over a BroadcastChannel.
//
// Promise: a client notices no difference: it speaks the protocol to a socket whose
// other end is the leader's hub. When the leader goes, is frozen or closes, the next
// tab has the lock at once; when it hangs with the lock, a tab that the person sees
// takes the lock from it; every client comes back with its positions.

import { streamKey } from "./positions.js";
import { registry } from "./registry.js";
import { TabHub } from "./tab-hub.js";

/** Events that each tab keeps for one that comes back. */
const MAX_KEPT = 500;
/** A tab that the person sees asks the leader for a sign of life this often, in milliseconds. */
const PROBE_EVERY_MS = 1_000;
/** Probes without an answer after which it takes the lead. */
const MAX_UNANSWERED = 2;

/** @typedef {import("./client-options.js").Options} Options */
/** @typedef {{key: string, position: string, frame?: Record<string, any>}} Kept */

/** The latest events, with their positions: what a tab missed in a reload is replayed from here. */
export class RecentEvents {
  /** @type {Kept[]} */
  #kept = [];

  /** @param {Record<string, any>} frame */
  add(frame) {
    if (typeof frame.position !== "string" || typeof frame.stream !== "string") return;
    this.mark(streamKey(frame), frame.position, frame.type === "gap" ? undefined : frame);
  }

  /** @param {string} key of a stream @param {string} position @param {Record<string, any>} [frame] */
  mark(key, position, frame) {
    if (this.#kept.some((kept) => kept.key === key && kept.position === position)) return;
    this.#kept.push({ key, position, ...(frame && { frame }) });
    if (this.#kept.length > MAX_KEPT) this.#kept.shift();
  }

  /** The events of a stream after a position; `null` if it is not known. @param {string} key @param {string} position */
  after(key, position) {
    const at = this.#kept.findIndex((kept) => kept.key === key && kept.position === position);
    if (at < 0) return null;
    return this.#kept.slice(at + 1).flatMap((kept) => (kept.key === key && kept.frame ? [kept.frame] : []));
  }
}

/** What a client's connection takes for a WebSocket. */
class TabSocket {
  static #count = 0;
  readyState = 0;
  bufferedAmount = 0;
  /** The hub has answered `connect`. */
  #joined = false;
  /** @type {(() => void) | null} */
  onopen = null;
  /** @type {((message: {data: string}) => void) | null} */
  onmessage = null;
  /** @type {((close: {code: number, reason: string}) => void) | null} */
  onclose = null;
  #tabs;
  id;

  /** @param {TabShare} tabs */
  constructor(tabs) {
    this.#tabs = tabs;
    this.id = `${tabs.id} ${++TabSocket.#count}`;
    tabs.join(this);
  }

  open() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.onopen?.();
  }

  /** @param {string} text */
  send(text) {
    const frame = JSON.parse(text);
    // The lock says whether the leader lives.
    if (frame.type === "ping") queueMicrotask(() => this.receive({ type: "pong" }, true));
    else this.#tabs.post({ kind: "send", from: this.id, frame });
  }

  /** @param {Record<string, any>} frame @param {boolean} direct for this socket alone */
  receive(frame, direct) {
    if (this.readyState !== 1) return;
    if (frame.type === "connected") this.#joined = true;
    if (this.#joined || direct) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  close() {
    if (this.readyState !== 3) this.#tabs.post({ kind: "gone", from: this.id });
    this.readyState = 3;
    this.#tabs.leave(this);
  }

  /** The leader or its connection is gone. @param {string} reason */
  lose(reason) {
    if (this.readyState === 0) return;
    this.readyState = 3;
    this.#tabs.leave(this);
    this.onclose?.({ code: 1006, reason });
  }
}

/** This tab's part in the sharing. */
export class TabShare {
  id = globalThis.crypto.randomUUID();
  recent = new RecentEvents();
  /** The class that the client opens sockets of. */
  WebSocket;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** @type {AbortController | null} */
  #ended = null;
  /** @type {TabHub | null} */
  #hub = null;
  /** Ends the wait for the lead, or the lead. */
  #claim = new AbortController();
  /** The leader's term; a later one counts more. */
  #term = 0;
  #up = false;
  /** Probes since the leader last said something. */
  #unanswered = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #probes;
  /** @type {Set<TabSocket>} */
  #sockets = new Set();
  #name;
  #options;
  #hooks;
  #onFreeze = () => this.#resign();
  #onResume = () => this.#apply();

  /**
   * @param {Options} options of the client
   * @param {{positions: () => string, retry: () => void, error: (frame: Record<string, any>) => void}} hooks its positions, what ends its wait, and what reports an error of the connection that is not made yet
   */
  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#name = `belfry ${options.share}`;
    const tabs = this;
    this.WebSocket = /** @type {any} */ (
      class extends TabSocket {
        constructor() {
          super(tabs);
        }
      }
    );
  }

  start() {
    if (this.#channel) return;
    this.#ended = new AbortController();
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#onMessage(data);
    // Held as long as this tab lives: the hub learns from it when the tab is gone.
    void hold(`${this.#name} ${this.id}`, this.#ended.signal, () => {});
    this.#apply();
    document.addEventListener("freeze", this.#onFreeze);
    document.addEventListener("resume", this.#onResume);
    this.post({ kind: "who" });
    this.#probes = setInterval(() => this.#probe(), PROBE_EVERY_MS);
  }

  stop() {
    document.removeEventListener("freeze", this.#onFreeze);
    document.removeEventListener("resume", this.#onResume);
    clearInterval(this.#probes);
    this.#resign();
    this.#ended?.abort();
    this.#channel?.close();
    this.#channel = null;
    this.#term = 0;
    this.#up = false;
  }

  /** To every tab, this one included. @param {Record<string, any>} message */
  post(message) {
    if (!this.#channel) return;
    this.#channel.postMessage(message);
    queueMicrotask(() => this.#onMessage(message));
  }

  /** @param {TabSocket} socket */
  join(socket) {
    this.#sockets.add(socket);
    if (this.#up) queueMicrotask(() => socket.open());
  }

  /** @param {TabSocket} socket */
  leave(socket) {
    this.#sockets.delete(socket);
  }

  /** Wants to lead: when the leader goes, or now. @param {boolean} [steal] */
  #apply(steal = false) {
    if (!this.#channel) return;
    this.#claim.abort();
    this.#claim = new AbortController();
    void hold(this.#name, this.#claim.signal, () => this.#lead(), { steal, lost: () => this.#deposed() });
  }

  /** Another tab took the lead, because this one did not answer. */
  #deposed() {
    this.#resign();
    this.#apply();
  }

  /** A hidden tab's timers are slow, so only one that the person sees can notice silence. */
  #probe() {
    if (this.#hub || document.visibilityState !== "visible") {
      this.#unanswered = 0;
    } else if (this.#unanswered >= MAX_UNANSWERED) {
      this.#unanswered = 0;
      this.#apply(true);
    } else {
      this.#unanswered += 1;
      this.post({ kind: "who" });
    }
  }

  #lead() {
    const { positions } = this.#hooks;
    const { storageKey, ...options } = this.#options;
    // Goes on where this tab is: only its own client knows.
    const storage = { getItem: (/** @type {string} */ key) => (key === "belfry.positions" ? positions() : null), setItem: () => {} };
    const upstream = new registry.Client({ ...options, share: undefined, toasts: undefined, queues: undefined, storage });
    const watch = (/** @type {string} */ tab, /** @type {() => void} */ gone) => hold(`${this.#name} ${tab}`, this.#ended?.signal, (free) => (free(), gone()));
    // Later than every term of before; the clock is that of all tabs.
    this.#hub = new TabHub({ id: this.id, term: Math.max(this.#term + 1, Date.now()), upstream, recent: this.recent, post: (message) => this.post(message), watch });
    upstream.connect();
  }

  #resign() {
    this.#hub?.close();
    this.#hub = null;
    this.#claim.abort();
  }

  /** @param {any} message */
  #onMessage(message) {
    if (!this.#channel) return;
    if (message.term !== undefined) {
      // From a leader that hung, and does not know yet that another one took over.
      if (message.term < this.#term) return;
      this.#unanswered = 0;
    }
    switch (message.kind) {
      case "who":
        return this.#hub?.announce();
      case "lead":
        return this.#onLead(message);
      case "error":
        return this.#hooks.error(message.frame);
      case "end":
        for (const socket of [...this.#sockets]) {
          socket.open();
          socket.receive(message.bye, true);
          socket.lose(message.bye.reason);
        }
        return;
      case "frame":
        if (message.to === undefined) this.recent.add(message.frame);
        for (const socket of this.#sockets) {
          if (message.to !== undefined && message.to !== socket.id) continue;
          for (const [key, at] of message.frame.type === "connected" ? Object.entries(message.frame.streams) : []) this.recent.mark(key, at.position);
          socket.receive(message.frame, message.to !== undefined);
        }
        return;
      case "send":
        return this.#hub?.onFrame(message.from, message.frame);
      case "gone":
        return this.#hub?.forget(message.from);
    }
  }

  /** @param {{term: number, up: boolean, reason: string}} message */
  #onLead({ term, up, reason }) {
    const lost = term !== this.#term || !up;
    this.#term = term;
    this.#up = up;
    if (lost) for (const socket of [...this.#sockets]) socket.lose(reason);
    if (!up) return;
    this.#hooks.retry();
    for (const socket of this.#sockets) socket.open();
  }
}

/**
 * Holds a lock until `release` is called or the signal aborts.
 *
 * @param {string} name
 * @param {AbortSignal | undefined} signal
 * @param {(release: () => void) => void} granted
 * @param {{steal?: boolean, lost?: () => void}} [options] takes it from who has it; another one took it from here
 */
async function hold(name, signal, granted, { steal = false, lost = () => {} } = {}) {
  let held = false;
  try {
    await navigator.locks.request(name, steal ? { steal } : { signal }, () => {
      held = true;
      return new Promise((resolve) => {
        const release = () => resolve(undefined);
        signal?.addEventListener("abort", release);
        granted(release);
      });
    });
  } catch {
    // Ended while it waited, or was taken away.
    if (held && !signal?.aborted) lost();
  }
}

/**
 * @param {Options} options
 * @param {{positions: () => string, retry: () => void, error: (frame: Record<string, any>) => void}} hooks
 * @returns {TabShare | null} null where the browser cannot: one connection for each tab
 */
export function shareTabs(options, hooks) {
  const able = typeof BroadcastChannel === "function" && typeof document !== "undefined" && Boolean(globalThis.navigator?.locks) && typeof globalThis.crypto?.randomUUID === "function";
  return able ? new TabShare(options, hooks) : null;
}
