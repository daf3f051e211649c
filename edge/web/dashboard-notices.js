// Announcing an event: feed, bell and toast, here and on the person's other
// devices as one.
//
// Promise: an event is announced once; what was read or dismissed elsewhere is
// taken away without a word, or never shown; `displayed`, `dismissed` and `read`
// are reported only for what the person really saw, closed or opened.

/** An event older than this was missed, and is told in one toast with its like, in milliseconds. */
const MISSED_AFTER_MS = 60_000;
/** An event older than this comes from a replay, after which the retracts come, in milliseconds. */
const REPLAYED_AFTER_MS = 3_000;
/** So long a replayed event waits for its retract before it is announced, in milliseconds. */
const HOLD_MS = 300;
/** Events of a replay that wait, and retracts and missed events that are remembered. */
const MAX_REMEMBERED = 500;
/** The key of the toast that tells of missed events. */
const MISSED = "missed";

/** @typedef {import("./dashboard-words.js").Words} Words */

/**
 * @typedef {object} NoticeParts
 * @property {import("./toast-notifications.js").ToastNotifications} toasts
 * @property {import("./dashboard-feed.js").Feed} feed
 * @property {Pick<import("./websocket-client.js").DashboardWebSocketClient, "receipt">} client
 * @property {() => number} now Unix milliseconds, by the clock that gave events their timestamps
 * @property {() => void} ring
 * @property {() => void} showFeed
 */

/** @param {Set<string>} set @param {string} id */
function remember(set, id) {
  set.delete(id);
  set.add(id);
  const [oldest] = set;
  if (set.size > MAX_REMEMBERED && oldest !== undefined) set.delete(oldest);
}

/** Announces events, and takes announcements back. */
export class Notices {
  #parts;
  /** Dealt with elsewhere; @type {Set<string>} */
  #retracted = new Set();
  /** Told together in one toast; @type {Set<string>} */
  #missed = new Set();
  /** Announcements that wait for a retract, by event; @type {Map<string, () => void>} */
  #held = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {NoticeParts} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** A new connection: what is missed from now on is counted anew. */
  begin() {
    this.#missed.clear();
  }

  /**
   * @param {any} event
   * @param {Words} words
   * @param {() => void} [open] shows what the event is about
   */
  tell(event, words, open) {
    const { feed } = this.#parts;
    const { kind, title, text } = words;
    const what = kind === "success" || text === "" ? title : `${title}: ${text}`;
    const entry = { id: event.id, at: event.timestamp, kind, text: event.stream === "queue" ? `${event.queue} · ${what}` : what, jobId: event.jobId };
    // What came too late for its purpose is noted, not announced.
    const fresh = event.expired !== true && !this.#retracted.has(event.id);
    if (!feed.add(entry, fresh) || !fresh) return;
    const ageMs = this.#parts.now() - Date.parse(event.timestamp);
    const announce = () => this.#announce(event, words, ageMs > MISSED_AFTER_MS, open);
    if (ageMs > REPLAYED_AFTER_MS) this.#hold(event.id, announce);
    else announce();
  }

  /** It was read or dismissed on another device. @param {string} id */
  retract(id) {
    remember(this.#retracted, id);
    this.#held.delete(id);
    this.#parts.feed.settle(id);
    this.#parts.toasts.retract(id);
    // A toast that is gone is not brought back by what it said less.
    if (this.#missed.delete(id) && this.#parts.toasts.shows(MISSED)) this.#sayMissed();
  }

  /** The person dealt with it here. @param {string} id @param {"displayed" | "dismissed" | "read"} state */
  report(id, state) {
    this.#parts.client.receipt(id, state);
    if (state !== "displayed") this.#parts.feed.settle(id);
  }

  /** The person looked through the feed. */
  readAll() {
    const ids = this.#parts.feed.unread;
    this.#parts.feed.settleAll();
    this.#read(ids);
    this.#missed.clear();
    this.#parts.toasts.dismiss(MISSED);
  }

  /** @param {Iterable<string>} ids */
  #read(ids) {
    for (const id of ids) {
      this.#held.delete(id);
      this.#parts.toasts.retract(id);
      this.report(id, "read");
    }
  }

  /**
   * @param {any} event
   * @param {Words} words
   * @param {boolean} missed
   * @param {(() => void) | undefined} open
   */
  #announce(event, words, missed, open) {
    const { toasts, ring, showFeed } = this.#parts;
    ring();
    if (missed) {
      remember(this.#missed, event.id);
      return this.#sayMissed();
    }
    toasts.show({ ...words, jobId: event.jobId, eventId: event.offset === undefined ? undefined : event.id, open: open ?? showFeed });
  }

  #sayMissed() {
    const { toasts, showFeed } = this.#parts;
    const count = this.#missed.size;
    if (count === 0) return toasts.dismiss(MISSED);
    const updates = count === 1 ? "One update" : `${count}${count === MAX_REMEMBERED ? " or more" : ""} updates`;
    const open = () => {
      this.#read([...this.#missed]);
      this.#missed.clear();
      showFeed();
    };
    toasts.show({ kind: "info", title: "While you were away", text: `${updates}, see the activity.`, key: MISSED, open });
  }

  /** @param {string} id @param {() => void} announce */
  #hold(id, announce) {
    this.#held.set(id, announce);
    if (this.#held.size >= MAX_REMEMBERED) return this.#release();
    this.#timer ??= setTimeout(() => this.#release(), HOLD_MS);
  }

  #release() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const announce of held) announce();
  }
}
