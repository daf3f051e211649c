// Sends receipts: a frame every `EVERY_MS`, or as soon as one is full.
//
// Promise: nothing is sent before `connected`, nor to an edge that does not know
// receipts, nor while the network is behind; what waits is kept until then.

import { MAX_RECEIPTS } from "./limits.js";
import { Receipts } from "./receipts.js";

/** Between two frames that are not full, in milliseconds. */
const EVERY_MS = 250;
/** Receipts wait while more than this is buffered for the network, in bytes. */
const MAX_BUFFERED_BYTES = 16 * 1024;
/** The longest pause that an edge can request, in milliseconds. */
const MAX_WAIT_MS = 60_000;

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./receipts.js").ReceiptState} ReceiptState */

/** Sends the receipts of one client. */
export class ReceiptSender {
  #receipts = new Receipts();
  /** The connection, once it is established; @type {Connection | null} */
  #connection = null;
  /** The edge requested a pause until then. */
  #notBefore = 0;
  /** @type {unknown} */
  #timer = null;
  #world;
  #beforeSending;

  /**
   * @param {import("./connection.js").World} world
   * @param {() => void} beforeSending saves the positions of the events
   */
  constructor(world, beforeSending) {
    this.#world = world;
    this.#beforeSending = beforeSending;
  }

  /** @returns {number} receipts that were dropped because too many waited */
  get dropped() {
    return this.#receipts.dropped;
  }

  /**
   * @param {string} id
   * @param {ReceiptState} state
   * @returns {boolean} false if that was known
   * @throws {RangeError} if the state or the id is not valid
   */
  report(id, state) {
    const changed = this.#receipts.report(id, state);
    if (changed) this.#schedule();
    return changed;
  }

  /** The connection is established. @param {Connection | null} connection */
  begin(connection) {
    this.#connection = connection;
    this.#notBefore = 0;
    this.#schedule();
  }

  /** The edge is too old to know receipts, or the connection is over. */
  end() {
    this.#connection = null;
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    this.#receipts.lost();
  }

  /** The edge refused the last frame for its rate. @param {unknown} retryAfterMs */
  refused(retryAfterMs) {
    this.#receipts.lost();
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    const waitMs = Math.min(MAX_WAIT_MS, Number(retryAfterMs) || EVERY_MS);
    this.#notBefore = this.#world.now() + waitMs;
    if (this.#connection !== null && this.#receipts.waiting > 0) this.#sendLater();
  }

  pingSent() {
    this.#receipts.pingSent();
  }

  pongReceived() {
    this.#receipts.pongReceived();
  }

  /** Sends what waits, as far as the network takes it. */
  flush() {
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#connection === null || this.#receipts.waiting === 0) return;
    if (this.#world.now() < this.#notBefore) return this.#sendLater();
    this.#beforeSending();
    // Sending may end the connection, and with it this.
    while (this.#connection !== null && this.#receipts.waiting > 0) {
      if (this.#connection.buffered > MAX_BUFFERED_BYTES) return this.#sendLater();
      const receipts = this.#receipts.take();
      if (!this.#connection.send({ type: "receipt", receipts })) return;
    }
  }

  /** @returns {string} for `restore`, by the next page */
  save() {
    return this.#receipts.save();
  }

  /** @param {string | null} saved */
  restore(saved) {
    this.#receipts.restore(saved);
  }

  #schedule() {
    if (this.#connection === null) return;
    const ready = this.#connection.buffered <= MAX_BUFFERED_BYTES && this.#world.now() >= this.#notBefore;
    if (ready && this.#receipts.waiting >= MAX_RECEIPTS) this.flush();
    else if (this.#receipts.waiting > 0) this.#sendLater();
  }

  #sendLater() {
    const waitMs = Math.max(EVERY_MS, this.#notBefore - this.#world.now());
    this.#timer ??= this.#world.setTimeout(() => this.flush(), waitMs);
  }
}
