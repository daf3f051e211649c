// What this device has to report of events, until the edge is known to have it.
//
// Promise: pure. Of each event only the highest state is told, each state once;
// what was sent on a connection that died is told again; no more than the newest
// `MAX_IDS` events are remembered, and what gives way unsent is counted.

/** Each state includes those before it. */
const STATES = /** @type {const} */ (["delivered", "displayed", "dismissed", "read"]);
/** Events that are remembered. */
const MAX_IDS = 1_000;
/** Receipts in one frame; the edge takes no more. */
export const MAX_IN_FRAME = 100;
/** One that is none makes the edge refuse the whole frame it is in. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @typedef {typeof STATES[number]} ReceiptState */

/** @param {string} id @param {number} rank */
const entry = (id, rank) => ({ id, state: /** @type {ReceiptState} */ (STATES[rank]) });

/** @param {unknown} id @returns {id is string} */
export const isId = (id) => typeof id === "string" && UUID.test(id);

/** The receipts of one device. */
export class Receipts {
  /** The highest state that was reported, newest event last; @type {Map<string, number>} */
  #reached = new Map();
  /** To be sent; @type {Map<string, number>} */
  #waiting = new Map();
  /** Sent since the last ping; @type {Map<string, number>} */
  #sent = new Map();
  /** Sent before a ping that was not answered yet; @type {Map<string, number>} */
  #asked = new Map();
  #dropped = 0;

  /** @returns {number} receipts that wait to be sent */
  get waiting() {
    return this.#waiting.size;
  }

  /** @returns {number} receipts that were never sent because too many waited */
  get dropped() {
    return this.#dropped;
  }

  /**
   * An event reached a state.
   *
   * @param {string} id
   * @param {ReceiptState} state
   * @returns {boolean} false if that was known, or includes less than what was known
   * @throws {RangeError} if there is no such state or the id is none
   */
  report(id, state) {
    const rank = STATES.indexOf(state);
    if (rank < 0) throw new RangeError(`\`${state}\` is no state of a receipt, use one of ${STATES.join(", ")}`);
    if (!isId(id)) {
      throw new RangeError(`\`${String(id).slice(0, 40)}\` is no id of an event, pass the event's \`id\``);
    }
    if (rank <= (this.#reached.get(id) ?? -1)) return false;
    this.#remember(id, rank);
    this.#waiting.set(id, rank);
    return true;
  }

  /**
   * What goes into the next frame.
   *
   * @returns {{id: string, state: ReceiptState}[]} `MAX_IN_FRAME` at most
   */
  take() {
    const taken = [...this.#waiting].slice(0, MAX_IN_FRAME);
    for (const [id, rank] of taken) {
      this.#waiting.delete(id);
      this.#sent.set(id, rank);
    }
    return taken.map(([id, rank]) => entry(id, rank));
  }

  /** A ping follows what was sent so far. */
  pinged() {
    for (const [id, rank] of this.#sent) this.#asked.set(id, rank);
    this.#sent.clear();
  }

  /** It was answered: the edge has all that went before it. */
  answered() {
    this.#asked.clear();
  }

  /** The connection ended: nobody knows what arrived, so it is told again. */
  lost() {
    for (const [id, rank] of [...this.#asked, ...this.#sent]) {
      this.#waiting.set(id, Math.max(rank, this.#waiting.get(id) ?? 0));
    }
    this.#asked.clear();
    this.#sent.clear();
  }

  /** @returns {string} for `restore`, by the next page of the same user */
  save() {
    return JSON.stringify([...new Map([...this.#asked, ...this.#sent, ...this.#waiting])]);
  }

  /**
   * Takes what `save` gave; whatever is not well formed is left out.
   *
   * @param {string | null} saved
   */
  restore(saved) {
    let rows;
    try {
      rows = JSON.parse(saved ?? "[]");
    } catch {
      return;
    }
    if (!Array.isArray(rows)) return;
    for (const row of rows.slice(0, MAX_IDS)) {
      const [id, rank] = Array.isArray(row) ? row : [];
      const state = Number.isInteger(rank) ? STATES[rank] : undefined;
      if (state !== undefined && isId(id)) this.report(id, state);
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
    this.#asked.delete(oldest);
  }
}
