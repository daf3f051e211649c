// Shows a client's events as toasts: what `toasts: true` and the auto-start do.
//
// Promise: every event is announced once; a job has one toast from its start to its
// end; progress is drawn at most ten times a second; what was read or dismissed on
// another device is not shown, what came too late for its purpose is only listed.

import { announcementFor, subjectName } from "./announcements.js";
import { isJobId, Jobs } from "./jobs.js";
import { registry } from "./registry.js";

/** Between two drawings of progress, in milliseconds. */
const DRAW_EVERY_MS = 100;
/** Jobs with progress that waits to be drawn, and names that are remembered; beyond, the oldest go. */
const MAX_JOBS = 200;
/** Events that came with a reconnect wait this long for their retract, in milliseconds. */
const HOLD_MS = 300;
/** Events that wait. */
const MAX_HELD = 500;

/** @typedef {import("./toast-notifications.js").Toast} Toast */

/**
 * @typedef {object} EventToastsOptions
 * @property {import("./toast-notifications.js").ToastNotificationSystem} [toasts] the page's own by default
 * @property {(event: any, toast: Toast, show: () => void) => void} [announce] decides whether this tab shows it
 * @property {() => boolean} [front] whether this tab shows progress
 */

const inFront = () => globalThis.document?.visibilityState !== "hidden";

/** @param {Map<string, any>} map */
function bound(map) {
  const [oldest] = map.keys();
  if (map.size > MAX_JOBS && oldest !== undefined) map.delete(oldest);
}

/** Announces the events of one client. */
export class EventToasts {
  #jobs = new Jobs();
  /** Names of results, by job; @type {Map<string, string>} */
  #names = new Map();
  /** Progress to be drawn, by job; @type {Map<string, any>} */
  #moving = new Map();
  /** Announcements that wait for a retract, by event; @type {Map<string, () => void>} */
  #held = new Map();
  #holding = false;
  #connectedBefore = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #holdTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #drawTimer;
  #client;
  #toasts;
  #announce;
  #front;

  /**
   * @param {import("./websocket-client.js").DashboardWebSocketClient} client
   * @param {EventToastsOptions} [options]
   */
  constructor(client, { toasts = registry.toasts?.(), announce = (_event, _toast, show) => show(), front = inFront } = {}) {
    if (!toasts) throw new Error("there are no toasts: load toast-notifications.js before the client, or pass a ToastNotificationSystem");
    this.#client = client;
    this.#toasts = toasts;
    this.#announce = announce;
    this.#front = front;
    toasts.onReceipt = (/** @type {string} */ id, /** @type {any} */ state) => client.receipt(id, state);
    client.on("*", (event) => this.#onEvent(event));
    client.on("retract", ({ id }) => {
      this.#held.delete(id);
      toasts.retract(id);
    });
    client.on("connected", () => {
      if (this.#connectedBefore) this.#hold();
      this.#connectedBefore = true;
    });
  }

  /** @param {any} event */
  #onEvent(event) {
    // A late event that a later one of the job has overtaken.
    if (!this.#jobs.take(event)) return;
    const { jobId, type } = event;
    const name = subjectName(event);
    if (isJobId(jobId) && name !== undefined && !this.#names.has(jobId)) {
      this.#names.set(jobId, name);
      bound(this.#names);
    }
    const running = type === "job_progress" || type.endsWith("_started");
    if (running) return isJobId(jobId) ? this.#move(event) : undefined;
    const announcement = announcementFor(event, isJobId(jobId) ? this.#names.get(jobId) : undefined);
    if (announcement === null) return;
    if (isJobId(jobId)) this.#moving.delete(jobId);
    const toast = { ...announcement, jobId, key: isJobId(jobId) ? `job-${jobId}` : `event-${event.id}`, eventId: event.offset === undefined ? undefined : event.id };
    if (event.expired === true) return this.#toasts.note(toast);
    const announce = () => this.#announce(event, toast, () => this.#toasts.show(toast));
    if (!this.#holding) return announce();
    this.#held.set(event.id, announce);
    if (this.#held.size > MAX_HELD) this.#release();
  }

  /** @param {any} event */
  #move(event) {
    this.#moving.set(event.jobId, event);
    bound(this.#moving);
    this.#drawTimer ??= setTimeout(() => this.#draw(), DRAW_EVERY_MS);
  }

  #draw() {
    this.#drawTimer = undefined;
    const events = [...this.#moving.values()];
    this.#moving.clear();
    if (!this.#front()) return;
    for (const { jobId, percent, stage } of events) {
      if (this.#jobs.get(jobId)?.phase === "running") this.#toasts.progress(jobId, percent, stage ?? "Started", this.#names.get(jobId));
    }
  }

  #hold() {
    this.#holding = true;
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(() => this.#release(), HOLD_MS);
  }

  #release() {
    clearTimeout(this.#holdTimer);
    this.#holding = false;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const announce of held) announce();
  }
}
