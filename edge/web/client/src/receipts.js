// The receipts of this device, until the edge is known to have them.
//
// Promise: pure. Of each event only the highest state is sent, each state once; what
// was sent on a connection that died is sent again; the newest `MAX_IDS` events are
// remembered, and receipts that were dropped unsent are counted.

import { MAX_RECEIPTS } from "./limits.js";
import { savedRows } from "./saved-state.js";

/** Each state includes those before it. */
const STATES = /** @type {const} */ (["delivered", "displayed", "dismissed", "read"]);
/** Events that are remembered. */
const MAX_IDS = 1_000;
/** An id of another form makes the edge refuse the whole frame. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @typedef {typeof STATES[number]} ReceiptState */

/** @param {string} id @param {number} rank */
const entry = (id, rank) => ({ id, state: /** @type {ReceiptState} */ (STATES[rank]) });

/** @param {unknown} id @returns {id is string} */
export const isEventId = (id) => typeof id === "string" && UUID.test(id);

/** The receipts of one device. */
export class Receipts {
  /** The highest state by event, newest event last; @type {Map<string, number>} */
  #reached = new Map();
  /** To be sent; @type {Map<string, number>} */
  #waiting = new Map();
  /** Sent since the last ping; @type {Map<string, number>} */
  #sent = new Map();
  /** Sent before a ping that is not answered yet; @type {Map<string, number>} */
  #unproven = new Map();
  #dropped = 0;

  /** @returns {number} receipts to be sent */
  get waiting() {
    return this.#waiting.size;
  }

  /** @returns {number} receipts that were dropped because too many waited */
  get dropped() {
    return this.#dropped;
  }

  /**
   * An event reached a state.
   *
   * @param {string} id
   * @param {ReceiptState} state
   * @returns {boolean} false if this state or a higher one was known
   * @throws {RangeError} if the state or the id is not valid
   */
  report(id, state) {
    const rank = STATES.indexOf(state);
    if (rank < 0) throw new RangeError(`unknown receipt state \`${state}\`, use one of ${STATES.join(", ")}`);
    if (!isEventId(id)) {
      throw new RangeError(`\`${String(id).slice(0, 40)}\` is not the id of an event, pass the event's \`id\``);
    }
    if (rank <= (this.#reached.get(id) ?? -1)) return false;
    this.#remember(id, rank);
    this.#waiting.set(id, rank);
    return true;
  }

  /**
   * The receipts of the next frame.
   *
   * @returns {{id: string, state: ReceiptState}[]} `MAX_RECEIPTS` at most
   */
  take() {
    const taken = [...this.#waiting].slice(0, MAX_RECEIPTS);
    for (const [id, rank] of taken) {
      this.#waiting.delete(id);
      this.#sent.set(id, rank);
    }
    return taken.map(([id, rank]) => entry(id, rank));
  }

  /** A ping follows what was sent so far. */
  pingSent() {
    for (const [id, rank] of this.#sent) this.#unproven.set(id, rank);
    this.#sent.clear();
  }

  /** Its pong came: the edge has everything that was sent before it. */
  pongReceived() {
    this.#unproven.clear();
  }

  /** The connection ended: what may not have arrived is sent again. */
  lost() {
    for (const [id, rank] of [...this.#unproven, ...this.#sent]) {
      this.#waiting.set(id, Math.max(rank, this.#waiting.get(id) ?? 0));
    }
    this.#unproven.clear();
    this.#sent.clear();
  }

  /** @returns {string} for `restore`, by the next page of the same user */
  save() {
    return JSON.stringify([...new Map([...this.#unproven, ...this.#sent, ...this.#waiting])]);
  }

  /**
   * Takes what `save` gave; whatever is not well formed is left out.
   *
   * @param {string | null} saved
   */
  restore(saved) {
    for (const [id, rank] of savedRows(saved, MAX_IDS)) {
      const state = Number.isInteger(rank) ? STATES[rank] : undefined;
      if (state !== undefined && isEventId(id)) this.report(id, state);
    }
  }

  /** @param {string} id @param {number} rank */
  #remember(id, rank) {
    this.#reached.delete(id);
    this.#reached.set(id, rank);
    if (this.#reached.size <= MAX_IDS) return;
    const [oldest] = this.#reached.keys();
    if (oldest === undefined) return;
    this.#reached.delete(oldest);
    if (this.#waiting.delete(oldest)) this.#dropped += 1;
    this.#sent.delete(oldest);
    this.#unproven.delete(oldest);
  }
}
