// The pill in the header: whether the page is live, how long it waits, and why.
//
// Promise: a wait is counted down and can be ended by hand; an edge that does not let
// this page's origin in is named with the setting to change, which browsers hide.

import { byId } from "./dashboard-elements.js";

/** Waits shorter than this are not worth a countdown, in milliseconds. */
const SHORT_WAIT_MS = 1_500;
/** The close code of a person with too many connections. */
const TOO_MANY = 4_009;

/** @typedef {import("../client/src/websocket-client.js").DashboardWebSocketClient} Client */

/** Draws the state of a connection. */
export class ConnectionPanel {
  /** The last `state`; @type {any} */
  #detail;
  /** When the wait ends, by `performance.now()`. */
  #waitsUntil = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticks;
  #client;

  /** @param {Client} client */
  constructor(client) {
    this.#client = client;
    this.#detail = { state: client.state };
    client.on("state", (detail) => this.#changed(detail));
    client.on("error", ({ code }) => code === "origin_refused" && this.#refused());
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
    this.#draw();
  }

  #refused() {
    byId("refused").hidden = false;
    byId("refused-origin").textContent = location.origin;
    byId("refused-setting").textContent = `--origins ${location.origin}`;
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
    button.textContent = waits ? "Reconnect now" : this.#detail.code === TOO_MANY ? "Use here" : "Reconnect";
  }

  /** @param {string} state @param {boolean} degraded @param {number} waitS */
  #text(state, degraded, waitS) {
    if (state === "connected") return degraded ? "Delivery paused" : "Connected";
    if (state === "disconnected") return "Disconnected";
    if (!navigator.onLine) return "Offline";
    return waitS > 0 ? `Reconnecting in ${waitS} s` : "Connecting …";
  }
}
