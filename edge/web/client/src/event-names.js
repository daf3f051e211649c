// The names that a client's handlers can be registered for.
//
// Promise: a name that never comes is refused at once, with the nearest one that does.

import { WS_MESSAGE_TYPES } from "./event-types.js";

/** What a client emits beside the events themselves; `event` is another name of `*`, `disconnected` comes when a connection is lost or ended for good. */
const OWN_NAMES = [
  "*",
  "event",
  "state",
  "connected",
  "disconnected",
  "error",
  "gap",
  "degraded",
  "recovered",
  "bye",
  "subscribed",
  "unsubscribed",
  "refreshed",
  "retract",
  "presence",
  "unknown",
];

/** Every name. */
const NAMES = new Set([...Object.values(WS_MESSAGE_TYPES), ...OWN_NAMES]);

/**
 * @param {unknown} name
 * @throws {TypeError} if nothing of this name is ever emitted
 */
export function checkName(name) {
  if (NAMES.has(/** @type {string} */ (name))) return;
  const given = String(name).slice(0, 60);
  const [nearest] = [...NAMES].sort((a, b) => distance(given, a) - distance(given, b));
  throw new TypeError(`there is no event \`${given}\`, did you mean \`${nearest}\`? Names: ${[...NAMES].join(", ")}`);
}

/** Letters to insert, remove or replace; case, `-` and `_` do not count. @param {string} a @param {string} b */
function distance(a, b) {
  const [from, to] = [a, b].map((name) => name.toLowerCase().replace(/[-_\s]/g, ""));
  let row = Array.from(to ?? "", (_, n) => n + 1);
  for (const [n, char] of Array.from(from ?? "").entries()) {
    let left = n + 1;
    let above = n;
    row = row.map((up, m) => {
      left = Math.min(left + 1, up + 1, above + Number(to?.[m] !== char));
      above = up;
      return left;
    });
  }
  return row.at(-1) ?? a.length;
}
