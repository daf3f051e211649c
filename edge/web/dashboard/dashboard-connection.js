// The pill in the header: whether the page is live, how long it waits, and why.
//
// Promise: a wait is counted down and can be ended by hand; an edge that does not let
// this page's origin in is named with the setting to change, which browsers hide.

import { byId } from "./dashboard-elements.js";

/** Waits shorter than this are not worth a countdown, in milliseconds. */
const SHORT_WAIT_MS = 1_500;
/** How long the question about the origin may take, in milliseconds. */
const CHECK_TIMEOUT_MS = 5_000;

/** @typedef {import("../client/src/websocket-client.js").DashboardWebSocketClient} Client */

/** Draws the state of a connection. */
export class ConnectionPanel {
  /** The last `state`; @type {any} */
  #detail;
  /** When the wait ends, by `performance.now()`. */
  #waitsUntil = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticks;
  #checking = false;
  #client;
  #originCheck;

  /**
   * @param {Client} client
   * @param {string} originCheck where to ask whether this page's origin is let in
   */
  constructor(client, originCheck) {
    this.#client = client;
    this.#originCheck = originCheck;
    this.#detail = { state: client.state };
    client.on("state", (detail) => this.#changed(detail));
    for (const type of ["degraded", "recovered"]) client.on(type, () => this.#draw());
    byId("reconnect").addEventListener("click", () => {
      // Begins again at once, without the rest of the wait.
      client.close();
      client.connect();
    });
    addEventListener("offline", () => this.#draw());
    addEventListener("online", () => this.#draw());
  }

  /** @param {any} detail of `state` */
  #changed(detail) {
    this.#detail = detail;
    this.#waitsUntil = performance.now() + (detail.retryInMs ?? 0);
    clearInterval(this.#ticks);
    if (detail.state === "connecting" && detail.retryInMs > SHORT_WAIT_MS) this.#ticks = setInterval(() => this.#draw(), 1_000);
    if (detail.state === "connected") byId("refused").hidden = true;
    // Not opened, or cut: only the first is about the origin, and the edge knows.
    else if (detail.retryInMs !== undefined) void this.#checkOrigin();
    this.#draw();
  }

  #draw() {
    const { state, sentence } = this.#detail;
    const degraded = state === "connected" && this.#client.degraded;
    const waitMs = Math.max(0, this.#waitsUntil - performance.now());
    const waits = state === "connecting" && waitMs > 0 && (this.#detail.retryInMs ?? 0) > SHORT_WAIT_MS;
    const pill = byId("connection");
    pill.dataset.state = degraded ? "degraded" : state;
    byId("connection-text").textContent = this.#text(state, degraded, waits ? Math.ceil(waitMs / 1_000) : 0);
    pill.title = degraded ? "The notifier is away. This page stays connected, updates will follow." : (sentence ?? "");
    const button = byId("reconnect");
    button.hidden = state !== "disconnected" && !waits;
    button.textContent = waits ? "Reconnect now" : "Reconnect";
  }

  /** @param {string} state @param {boolean} degraded @param {number} waitS */
  #text(state, degraded, waitS) {
    if (state === "connected") return degraded ? "Delivery paused" : "Connected";
    if (state === "disconnected") return "Disconnected";
    if (!navigator.onLine) return "Offline";
    return waitS > 0 ? `Reconnecting in ${waitS} s` : "Connecting …";
  }

  async #checkOrigin() {
    if (this.#checking) return;
    this.#checking = true;
    try {
      const answer = await fetch(this.#originCheck, { signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
      const { allowed } = await answer.json();
      const refused = allowed === false && this.#detail.state !== "connected";
      byId("refused").hidden = !refused;
      byId("refused-origin").textContent = location.origin;
      byId("refused-setting").textContent = `--origins ${location.origin}`;
    } catch {
      // The edge is away, or too old to know.
    } finally {
      this.#checking = false;
    }
  }
}
