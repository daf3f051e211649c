// Sends receipts: a frame each `EVERY_MS`, or as soon as one is full.
//
// Promise: nothing goes out before `connected`, nor to an edge that does not know
// receipts, nor while the network is behind; what waits is kept until it can.

import { MAX_IN_FRAME, Receipts } from "./receipts.js";

/** Between two frames unless one is full, in milliseconds. */
const EVERY_MS = 250;
/** Receipts wait while more than this waits for the network, in bytes. */
const MAX_BACKLOG_BYTES = 16 * 1024;
/** No pause that an edge asks for is longer, in milliseconds. */
const MAX_WAIT_MS = 60_000;

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./receipts.js").ReceiptState} ReceiptState */

/** Reports what becomes of events on this device. */
export class Reporter {
  #receipts = new Receipts();
  /** The one that said `connected`; @type {Connection | null} */
  #connection = null;
  /** The edge asked for a pause until then. */
  #notBefore = 0;
  /** @type {unknown} */
  #timer = null;
  #world;
  #beforeSending;

  /**
   * @param {import("./connection.js").World} world
   * @param {() => void} beforeSending keeps what the receipts are about
   */
  constructor(world, beforeSending) {
    this.#world = world;
    this.#beforeSending = beforeSending;
  }

  /** @returns {number} receipts that were given up because too many waited */
  get dropped() {
    return this.#receipts.dropped;
  }

  /**
   * @param {string} id
   * @param {ReceiptState} state
   * @returns {boolean} false if that is no news
   * @throws {RangeError} if there is no such state, or the id is none
   */
  report(id, state) {
    const news = this.#receipts.report(id, state);
    if (news) this.#soon();
    return news;
  }

  /** The edge said `connected`. @param {Connection | null} connection */
  begin(connection) {
    this.#connection = connection;
    this.#notBefore = 0;
    this.#soon();
  }

  /** The edge is too old to know receipts, or the connection is over. */
  end() {
    this.#connection = null;
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    this.#receipts.lost();
  }

  /** The edge took none of what was sent last, for now. @param {unknown} retryAfterMs */
  refused(retryAfterMs) {
    this.#receipts.lost();
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    const waitMs = Math.min(MAX_WAIT_MS, Number(retryAfterMs) || EVERY_MS);
    this.#notBefore = this.#world.now() + waitMs;
    if (this.#connection !== null && this.#receipts.waiting > 0) this.#later();
  }

  pinged() {
    this.#receipts.pinged();
  }

  answered() {
    this.#receipts.answered();
  }

  /** Sends what waits now, as far as the network takes it. */
  flush() {
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#connection === null || this.#receipts.waiting === 0) return;
    if (this.#world.now() < this.#notBefore) return this.#later();
    this.#beforeSending();
    // Sending can find that the connection is over, which ends this too.
    while (this.#connection !== null && this.#receipts.waiting > 0) {
      if (this.#connection.buffered > MAX_BACKLOG_BYTES) return this.#later();
      const receipts = this.#receipts.take();
      if (!this.#connection.send({ type: "receipt", receipts })) return;
    }
  }

  /** @returns {string} what waits, for the next page */
  save() {
    return this.#receipts.save();
  }

  /** @param {string | null} saved */
  restore(saved) {
    this.#receipts.restore(saved);
  }

  #soon() {
    if (this.#connection === null) return;
    const may = this.#connection.buffered <= MAX_BACKLOG_BYTES && this.#world.now() >= this.#notBefore;
    if (may && this.#receipts.waiting >= MAX_IN_FRAME) this.flush();
    else if (this.#receipts.waiting > 0) this.#later();
  }

  #later() {
    const waitMs = Math.max(EVERY_MS, this.#notBefore - this.#world.now());
    this.#timer ??= this.#world.setTimeout(() => this.flush(), waitMs);
  }
}
