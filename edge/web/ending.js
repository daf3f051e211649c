// What the end of a connection means for the next one.
//
// Promise: pure. The edge's own word (`bye`) goes before the close code, and what
// neither of them rules out is tried again.

import { REASONS } from "./reasons.js";

/**
 * @typedef {object} Verdict
 * @property {boolean} comeBack
 * @property {number} [retryAfterMs] what the edge asked for
 * @property {import("./token-source.js").TokenCause} cause for the next token
 * @property {{code: number, reason: string, sentence: string}} detail for people
 */

/**
 * @param {import("./connection.js").End} end
 * @param {boolean} fixedToken asking for another one gives the same
 * @returns {Verdict}
 */
export function judgeEnd({ bye, ...end }, fixedToken) {
  const code = typeof bye?.code === "number" ? bye.code : end.code;
  const reasons = REASONS.filter((reason) => reason.closeCode === code);
  const named = reasons.find((reason) => reason.name === bye?.reason) ?? reasons[0];
  const needsToken = named?.advice === "fresh_token";
  const never = reasons.length > 0 && reasons.every((reason) => reason.advice === "never");
  const wanted = typeof bye?.reconnect === "boolean" ? bye.reconnect : !never;
  return {
    // The same token would be refused again.
    comeBack: wanted && !(needsToken && fixedToken),
    retryAfterMs: bye?.retryAfterMs,
    cause: needsToken ? (code === 4002 ? "expired" : "rejected") : "connect",
    detail: { code, reason: bye?.reason ?? named?.name ?? end.reason, sentence: bye?.message ?? named?.sentence ?? end.reason },
  };
}
