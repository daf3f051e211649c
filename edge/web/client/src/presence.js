// The users who follow a queue.
//
// Promise: pure. A snapshot replaces everything; a change that is not newer than
// what is known of its user changes nothing; at most `MAX_PRESENCE_USERS` are known
// by name, the others are counted.

import { MAX_PRESENCE_USERS } from "./limits.js";

/**
 * @typedef {object} Member
 * @property {string} user
 * @property {boolean} online
 * @property {number} generation rises with every change
 */

/**
 * @typedef {object} PresenceView
 * @property {number} total how many users follow the queue
 * @property {string[]} users their ids, sorted; fewer than `total` in a large queue
 */

/** @param {any} member @returns {member is Member} */
function isMember(member) {
  return typeof member?.user === "string" && typeof member.online === "boolean" && Number.isSafeInteger(member.generation);
}

/** The presence of one queue. */
export class Presence {
  /** Includes users who left, so that late changes of them are recognized; @type {Map<string, Member>} */
  #members = new Map();
  #total = 0;

  /** @returns {PresenceView} */
  view() {
    const online = [...this.#members.values()].filter((member) => member.online);
    return { total: this.#total, users: online.map((member) => member.user).sort() };
  }

  /**
   * @param {Record<string, any>} frame `presence`, of this queue
   * @returns {Member[]} the entries that changed something
   */
  apply(frame) {
    const members = (Array.isArray(frame.users) ? frame.users : []).filter(isMember);
    if (frame.snapshot === true) {
      this.#members.clear();
      for (const member of members) this.#remember(member);
      const named = members.filter((member) => member.online).length;
      this.#total = Number.isSafeInteger(frame.total) ? Math.max(frame.total, 0) : named;
      return members;
    }
    return members.filter((member) => this.#change(member));
  }

  /** @param {Member} member */
  #change(member) {
    const known = this.#members.get(member.user);
    if (known && member.generation <= known.generation) return false;
    // A user who was counted but never named can leave too.
    const was = known?.online ?? !member.online;
    if (was !== member.online) this.#total = Math.max(0, this.#total + (member.online ? 1 : -1));
    this.#remember(member);
    return true;
  }

  /** @param {Member} member */
  #remember(member) {
    this.#members.delete(member.user);
    if (this.#members.size >= MAX_PRESENCE_USERS) {
      const offline = [...this.#members.values()].find((known) => !known.online);
      if (!offline) return;
      this.#members.delete(offline.user);
    }
    this.#members.set(member.user, { user: member.user, online: member.online, generation: member.generation });
  }
}

/** The presence of every watched queue. */
export class PresenceTable {
  /** @type {Map<string, Presence>} */
  #queues = new Map();

  /**
   * @param {Record<string, any>} frame `presence`
   * @returns {Record<string, unknown> | null} the update for the program; null if nothing changed
   */
  apply(frame) {
    const { queue } = frame;
    const presence = this.#queues.get(queue) ?? new Presence();
    this.#queues.set(queue, presence);
    const users = presence.apply(frame);
    const snapshot = frame.snapshot === true;
    if (!snapshot && users.length === 0) return null;
    return { type: "presence", queue, snapshot, total: presence.view().total, users };
  }

  /** @param {string} queue */
  forget(queue) {
    this.#queues.delete(queue);
  }

  /** @param {string} queue @returns {PresenceView | undefined} */
  view(queue) {
    return this.#queues.get(queue)?.view();
  }
}
