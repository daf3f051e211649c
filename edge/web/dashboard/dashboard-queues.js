// The queues that a person follows, and who else is there.
//
// Promise: only queues that the token grants are requested; a queue is shown as
// followed when the edge says so; the choice survives a reload of the page; at
// most `MAX_QUEUES` queues and `MAX_NAMES` names of each.

import { MAX_QUEUE_BYTES, utf8Length } from "../client/src/limits.js";

/** Queues that this page follows; a session may follow more. */
const MAX_QUEUES = 20;
/** Names that are shown of one queue; the rest is counted. */
const MAX_NAMES = 8;

/** @typedef {import("../client/src/websocket-client.js").DashboardWebSocketClient} Client */

/**
 * @typedef {object} QueueElements
 * @property {HTMLElement} panel hidden while the token grants no queue
 * @property {HTMLFormElement} form
 * @property {HTMLInputElement} input
 * @property {HTMLElement} choices a datalist
 * @property {HTMLElement} list
 * @property {HTMLElement} empty
 * @property {HTMLTemplateElement} template one queue
 * @property {HTMLElement} note
 */

/** @param {string} grant @param {string} queue */
function allows(grant, queue) {
  return grant.endsWith("*") ? queue.startsWith(grant.slice(0, -1)) : grant === queue;
}

/** Follows queues for a person. */
export class QueuesPanel {
  /** By name: the row, and whether the edge has confirmed it; @type {Map<string, {element: HTMLElement, live: boolean}>} */
  #queues = new Map();
  #user = "";
  #client;
  #session;
  #elements;
  #storage;
  #key;

  /**
   * @param {Client} client
   * @param {import("./dashboard-session.js").Session} session
   * @param {QueueElements} elements
   * @param {Storage} storage
   */
  constructor(client, session, elements, storage) {
    this.#client = client;
    this.#session = session;
    this.#elements = elements;
    this.#storage = storage;
    this.#key = `belfry.queues.${session.user}`;
    elements.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#follow(elements.input.value.trim())) elements.input.value = "";
    });
    client.on("subscribed", ({ queue }) => this.#activated(queue));
    client.on("connected", ({ streams, user }) => {
      this.#user = user;
      for (const queue of this.#queues.keys()) if (streams?.[`queue:${queue}`]) this.#activated(queue);
    });
    client.on("unsubscribed", ({ queue }) => {
      if (this.#queues.has(queue)) this.#drop(queue, `You may not follow ${queue} any more.`);
    });
    client.on("error", ({ field, queue, message }) => {
      const refused = field === "queue" && this.#queues.get(queue)?.live === false;
      if (refused) this.#drop(queue, `${queue} cannot be followed: ${message}`);
    });
    client.on("presence", ({ queue }) => this.#draw(queue));
    client.on("state", ({ state }) => {
      elements.list.toggleAttribute("data-stale", state !== "connected");
    });
  }

  /** There is a token: follows what was followed before the reload. */
  start() {
    const { grants } = this.#session;
    this.#elements.panel.hidden = grants.length === 0;
    this.#elements.choices.replaceChildren(
      ...grants
        .filter((grant) => !grant.endsWith("*"))
        .slice(0, MAX_QUEUES)
        .map((grant) => Object.assign(document.createElement("option"), { value: grant })),
    );
    for (const queue of this.#restore()) if (this.#isGranted(queue)) this.#follow(queue);
  }

  /** @param {string} queue */
  #isGranted(queue) {
    return this.#session.grants.some((grant) => allows(grant, queue));
  }

  /** @param {string} queue @returns {boolean} */
  #follow(queue) {
    const fault = this.#fault(queue);
    this.#say(fault ?? "");
    if (fault !== null) return false;
    try {
      this.#client.subscribe(queue);
      this.#client.watchPresence(queue);
    } catch (cause) {
      this.#say(cause instanceof Error ? cause.message : String(cause));
      return false;
    }
    const element = /** @type {HTMLElement} */ (this.#elements.template.content.cloneNode(true)).querySelector("li");
    if (!element) throw new Error("the queue's template has no `li`");
    text(element, ".queue-name", queue);
    const leave = element.querySelector("button");
    leave?.setAttribute("aria-label", `Leave ${queue}`);
    leave?.addEventListener("click", () => {
      this.#drop(queue, "");
      this.#elements.input.focus();
    });
    this.#queues.set(queue, { element, live: false });
    this.#elements.list.append(element);
    this.#draw(queue);
    this.#save();
    return true;
  }

  /** Why a queue cannot be followed; null if it can. @param {string} queue */
  #fault(queue) {
    if (queue === "") return "Write the name of a queue.";
    if (this.#queues.has(queue)) return `You follow ${queue} already.`;
    if (this.#queues.size >= MAX_QUEUES) return `You follow ${MAX_QUEUES} queues already. Leave one first.`;
    const tooLong = utf8Length(queue) > MAX_QUEUE_BYTES;
    if (tooLong || queue.includes("*") || !this.#isGranted(queue)) return `Your token does not grant the queue ${queue.slice(0, 40)}.`;
    return null;
  }

  /** @param {string} queue */
  #activated(queue) {
    const entry = this.#queues.get(queue);
    if (!entry) return;
    entry.live = true;
    this.#draw(queue);
  }

  /** @param {string} queue @param {string} why */
  #drop(queue, why) {
    this.#queues.get(queue)?.element.remove();
    this.#queues.delete(queue);
    this.#client.unwatchPresence(queue);
    this.#client.unsubscribe(queue);
    this.#elements.empty.hidden = this.#queues.size > 0;
    this.#say(why);
    this.#save();
  }

  /** @param {string} queue */
  #draw(queue) {
    const entry = this.#queues.get(queue);
    if (!entry) return;
    this.#elements.empty.hidden = true;
    const { element, live } = entry;
    const presence = this.#client.presence(queue);
    const total = presence?.total ?? 0;
    text(element, ".queue-count", !live ? "joining …" : presence ? `${total} here` : "following");
    const named = (presence?.users ?? []).slice(0, MAX_NAMES).map((user) => {
      const item = document.createElement("li");
      item.textContent = user === this.#user ? `${user} (you)` : user;
      return item;
    });
    if (total > named.length && named.length > 0) {
      const more = document.createElement("li");
      more.className = "people-more";
      more.textContent = `and ${total - named.length} more`;
      named.push(more);
    }
    element.querySelector(".people")?.replaceChildren(...named);
  }

  /** @param {string} sentence */
  #say(sentence) {
    this.#elements.note.textContent = sentence;
  }

  #save() {
    try {
      this.#storage.setItem(this.#key, JSON.stringify([...this.#queues.keys()]));
    } catch {
      // Full or switched off: the choice then ends with the page.
    }
  }

  /** @returns {string[]} */
  #restore() {
    try {
      const saved = JSON.parse(this.#storage.getItem(this.#key) ?? "[]");
      return (Array.isArray(saved) ? saved : []).filter((queue) => typeof queue === "string").slice(0, MAX_QUEUES);
    } catch {
      return [];
    }
  }
}

/** @param {Element} element @param {string} selector @param {string} value */
function text(element, selector, value) {
  const target = element.querySelector(selector);
  if (target && target.textContent !== value) target.textContent = value;
}
