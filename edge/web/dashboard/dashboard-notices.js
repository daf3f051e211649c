// Announces events: feed, bell and toast, in step with the person's other devices.
//
// Promise: an event is announced once; what was read or dismissed elsewhere is
// retracted, or never shown; `displayed`, `dismissed` and `read`
// are reported only for what the person really saw, closed or opened.

/** An event older than this was missed: all of them share one toast, in milliseconds. */
const MISSED_AFTER_MS = 60_000;
/** An event older than this comes from a replay, after which the retracts come, in milliseconds. */
const REPLAYED_AFTER_MS = 3_000;
/** So long a replayed event waits for its retract before it is announced, in milliseconds. */
const HOLD_MS = 300;
/** Events of a replay that wait, and retracts and missed events that are remembered. */
const MAX_REMEMBERED = 500;
/** The key of the toast for missed events. */
const MISSED = "missed";

/** @typedef {import("../client/src/announcements.js").Announcement} Announcement */

/**
 * @typedef {object} NoticeElements
 * @property {import("../client/src/toast-notifications.js").ToastNotificationSystem} toasts
 * @property {import("./dashboard-feed.js").Feed} feed
 * @property {Pick<import("../client/src/websocket-client.js").DashboardWebSocketClient, "receipt">} client
 * @property {() => number} now Unix milliseconds, by the clock that gave events their timestamps
 * @property {() => void} ring
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
  #elements;
  /** Acknowledged on another device; @type {Set<string>} */
  #retracted = new Set();
  /** Announced in one toast; @type {Set<string>} */
  #missed = new Set();
  /** Announcements that wait for a retract, by event; @type {Map<string, () => void>} */
  #pending = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {NoticeElements} elements */
  constructor(elements) {
    this.#elements = elements;
  }

  /** A new connection: missed events are counted from here. */
  begin() {
    this.#missed.clear();
  }

  /**
   * @param {any} event
   * @param {Announcement} announcement
   * @param {() => void} [open] shows what the event is about
   */
  announce(event, announcement, open) {
    const { feed } = this.#elements;
    const { kind, title, text } = announcement;
    const what = kind === "success" || text === "" ? title : `${title}: ${text}`;
    const entry = { id: event.id, at: event.timestamp, kind, text: event.stream === "queue" ? `${event.queue} · ${what}` : what, jobId: event.jobId };
    // What came too late for its purpose is noted, not announced.
    const fresh = event.expired !== true && !this.#retracted.has(event.id);
    if (!feed.add(entry, fresh) || !fresh) return;
    const ageMs = this.#elements.now() - Date.parse(event.timestamp);
    const announce = () => this.#show(event, announcement, ageMs > MISSED_AFTER_MS, open);
    if (ageMs > REPLAYED_AFTER_MS) this.#hold(event.id, announce);
    else announce();
  }

  /** It was read or dismissed on another device. @param {string} id */
  retract(id) {
    remember(this.#retracted, id);
    this.#pending.delete(id);
    this.#elements.feed.acknowledge(id);
    this.#elements.toasts.retract(id);
    // A toast that is gone is not shown again for a smaller count.
    if (this.#missed.delete(id) && this.#elements.toasts.shows(MISSED)) this.#showMissed();
  }

  /** The person saw, closed or opened it here. @param {string} id @param {"displayed" | "dismissed" | "read"} state */
  report(id, state) {
    this.#elements.client.receipt(id, state);
    if (state !== "displayed") this.#elements.feed.acknowledge(id);
  }

  /** The person saw these in the list that they opened. @param {string[]} ids */
  read(ids) {
    for (const id of ids) {
      this.#pending.delete(id);
      this.#missed.delete(id);
      this.#elements.toasts.retract(id);
      this.report(id, "read");
    }
    if (this.#missed.size === 0) this.#elements.toasts.dismiss(MISSED);
  }

  /**
   * @param {any} event
   * @param {Announcement} announcement
   * @param {boolean} missed
   * @param {(() => void) | undefined} open
   */
  #show(event, announcement, missed, open) {
    const { toasts, ring, feed } = this.#elements;
    ring();
    if (missed) {
      remember(this.#missed, event.id);
      return this.#showMissed();
    }
    toasts.show({ ...announcement, jobId: event.jobId, eventId: event.offset === undefined ? undefined : event.id, open: open ?? (() => feed.show()) });
  }

  #showMissed() {
    const { toasts, feed } = this.#elements;
    const count = this.#missed.size;
    if (count === 0) return toasts.dismiss(MISSED);
    const updates = count === 1 ? "One update" : `${count}${count === MAX_REMEMBERED ? " or more" : ""} updates`;
    const open = () => feed.open();
    toasts.show({ kind: "info", title: "While you were away", text: `${updates}, see the activity.`, key: MISSED, open });
  }

  /** @param {string} id @param {() => void} announce */
  #hold(id, announce) {
    this.#pending.set(id, announce);
    if (this.#pending.size >= MAX_REMEMBERED) return this.#release();
    this.#timer ??= setTimeout(() => this.#release(), HOLD_MS);
  }

  #release() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const announce of pending) announce();
  }
}
