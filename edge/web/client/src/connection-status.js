// What a person is to know of the connection, in one of four states.
//
// Promise: follows the client and the browser's own `offline`; "catching up" is
// shown while events of a former time arrive, and while the edge has no notifier.

/** Without an event for this long, nothing is left to catch up with, in milliseconds. */
const QUIET_MS = 400;

/** @typedef {"offline" | "connecting" | "live" | "catching-up"} Status */

/** How each is written. */
export const STATUS_TEXT = {
  offline: "○ Offline",
  connecting: "◐ Connecting",
  live: "● Live",
  "catching-up": "◐ Catching up",
};

/**
 * Calls `show` with the status now and whenever it changes.
 *
 * @param {import("./websocket-client.js").DashboardWebSocketClient} client
 * @param {(status: Status, sentence: string) => void} show
 * @returns {() => void} ends it
 */
export function followStatus(client, show) {
  let catching = false;
  let connectedBefore = client.state === "connected";
  let sentence = "";
  let last = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  function draw() {
    const away = client.state === "disconnected" || (client.state === "connecting" && globalThis.navigator?.onLine === false);
    /** @type {Status} */
    const status = away ? "offline" : client.state === "connecting" ? "connecting" : catching || client.degraded ? "catching-up" : "live";
    if (`${status} ${sentence}` === last) return;
    last = `${status} ${sentence}`;
    show(status, sentence);
  }
  function caughtUpSoon() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      catching = false;
      draw();
    }, QUIET_MS);
  }
  const offs = [
    client.on("state", (/** @type {any} */ detail) => {
      catching = detail.state === "connected" && connectedBefore;
      connectedBefore ||= detail.state === "connected";
      sentence = detail.sentence ?? "";
      if (catching) caughtUpSoon();
      draw();
    }),
    client.on("*", () => catching && caughtUpSoon()),
    client.on("degraded", draw),
    client.on("recovered", draw),
  ];
  const page = typeof globalThis.addEventListener === "function" ? globalThis : null;
  for (const type of ["online", "offline"]) page?.addEventListener(type, draw);
  draw();
  return () => {
    clearTimeout(timer);
    for (const off of offs) off();
    for (const type of ["online", "offline"]) page?.removeEventListener(type, draw);
  };
}
