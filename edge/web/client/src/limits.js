// The limits of the contract that a page meets.
//
// Promise: each is written here once. A test of the edge compares the limits of
// queues, receipts and the first frame with its own.

/** Queues of one session. */
export const MAX_QUEUES = 128;
/** UTF-8 bytes of a queue's name. */
export const MAX_QUEUE_BYTES = 128;
/** UTF-8 bytes of a job's id. */
export const MAX_JOB_ID_BYTES = 128;
/** Receipts in one frame. */
export const MAX_RECEIPTS = 100;
/** Messages in a window; the next one ends the connection with 4029. */
export const MESSAGES_PER_WINDOW = 100;
/** The window, in milliseconds. */
export const MESSAGE_WINDOW_MS = 60_000;
/** Bytes of the first frame, its token not counted. */
export const MAX_FIRST_FRAME_BYTES = 270_336;
/** Users that a presence snapshot names. */
export const MAX_PRESENCE_USERS = 1_000;

/**
 * UTF-8 bytes of a text. `TextEncoder` is missing in some JavaScript engines.
 *
 * @param {string} text
 */
export function utf8Length(text) {
  let bytes = 0;
  for (const char of text) {
    const point = char.codePointAt(0) ?? 0;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x1_0000 ? 3 : 4;
  }
  return bytes;
}
