// What the end of a connection means for the next one.
//
// Promise: pure. The edge's `bye` goes before the close code, and what neither rules
// out is tried again. A code below 4000 without `bye` proves nothing: proxies and
// load balancers close with 1000, 1001 or 1009 on their own.

import { REASONS } from "./reasons.js";

/** Close codes from here on are the edge's own. */
const FIRST_OWN_CODE = 4_000;

/**
 * @typedef {object} CloseDecision
 * @property {boolean} reconnect
 * @property {number} [retryAfterMs] what the edge requested
 * @property {import("./token-source.js").TokenCause} cause for the next token
 * @property {{code: number, reason: string, sentence: string}} detail for people
 */

/**
 * @param {import("./connection.js").End} end
 * @param {boolean} fixedToken asking for another one gives the same
 * @returns {CloseDecision}
 */
export function closePolicy({ bye, ...end }, fixedToken) {
  const code = typeof bye?.code === "number" ? bye.code : end.code;
  const fromEdge = bye !== null || code >= FIRST_OWN_CODE;
  const reasons = fromEdge ? REASONS.filter((reason) => reason.closeCode === code) : [];
  const named = reasons.find((reason) => reason.name === bye?.reason) ?? reasons[0];
  const needsToken = named?.advice === "fresh_token";
  const never = reasons.length > 0 && reasons.every((reason) => reason.advice === "never");
  const allowed = typeof bye?.reconnect === "boolean" ? bye.reconnect : !never;
  const unnamed = end.reason || `the connection was closed with code ${code}`;
  return {
    // The same token would be refused again.
    reconnect: allowed && !(needsToken && fixedToken),
    retryAfterMs: bye?.retryAfterMs,
    cause: needsToken ? (code === 4002 ? "expired" : "rejected") : "connect",
    detail: { code, reason: bye?.reason ?? named?.name ?? unnamed, sentence: bye?.message ?? named?.sentence ?? unnamed },
  };
}
