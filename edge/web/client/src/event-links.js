// Links to files in events, as this browser reaches them.
//
// Promise: a link to the machine behind the proxy that serves the edge lies beside the
// WebSocket instead, below `processors`; any other link is left as it is.

/** Hosts that mean a different machine on each machine. */
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
/** Fields of events with links to files. */
const LINKS = ["signedUrl", "thumbnailUrl"];

/**
 * Whether an address is one of the machine behind a proxy, which this browser cannot
 * reach or must not mix in.
 *
 * @param {URL} url
 * @param {URL} outside an address that the browser has reached the proxy by
 */
export function isInside({ protocol, hostname }, outside) {
  if (!LOOPBACK.has(hostname)) return false;
  return !LOOPBACK.has(outside.hostname) || (/^(https|wss):$/.test(outside.protocol) && protocol === "http:");
}

/**
 * Replaces the links of an event that only the machine behind the proxy could open.
 *
 * @param {Record<string, any>} event
 * @param {string} wsUrl where the client reaches the edge
 */
export function completeLinks(event, wsUrl) {
  for (const name of LINKS) {
    if (typeof event[name] !== "string") continue;
    try {
      const link = new URL(event[name]);
      const edge = new URL(wsUrl);
      if (!isInside(link, edge)) continue;
      edge.protocol = edge.protocol.replace(/^ws/, "http");
      edge.search = "";
      event[name] = new URL(`processors${link.pathname}${link.search}`, edge).href;
    } catch {
      // No link, or an environment without a whole `URL`.
    }
  }
}
