// The leader's end of a shared connection: what an edge is to its clients, the hub is
// to the tabs.
//
// Promise: each tab receives every event of what it follows once, in order, or a `gap`;
// the edge sees one session that follows what any tab wants, and each receipt once; a
// tab that is gone wants nothing any more.

/** What the edge sends that every tab receives as it is. */
const FORWARDED = ["*", "gap", "retract", "presence", "degraded", "recovered", "subscribed", "unsubscribed", "refreshed"];

/**
 * @typedef {object} HubContext
 * @property {string} id of the tab
 * @property {number} term of this lead: in each message, later than those of other leaders
 * @property {import("./websocket-client.js").DashboardWebSocketClient} upstream
 * @property {import("./tab-share.js").RecentEvents} recent
 * @property {(message: Record<string, any>) => void} post to every tab
 * @property {(tab: string, gone: () => void) => void} watch calls back when a tab is gone
 */

/** Serves the tabs of one browser. */
export class TabHub {
  /** Queues and watched queues, by client; @type {Map<string, {queues: Set<string>, watched: Set<string>}>} */
  #members = new Map();
  /** Tabs whose end is noticed; @type {Set<string>} */
  #tabs = new Set();
  #up = false;
  #reason = "";
  #session = /** @type {Record<string, any>} */ ({});
  #closed = false;
  #context;

  /** @param {HubContext} context */
  constructor(context) {
    this.#context = context;
    const { upstream } = context;
    for (const name of FORWARDED) upstream.on(name, (frame) => this.#toAll(frame));
    // No tab has joined what is not connected yet.
    upstream.on("error", (frame) => (this.#up ? this.#toAll(frame) : this.#post({ kind: "error", frame })));
    upstream.on("connected", (frame) => {
      this.#session = frame;
      this.#up = true;
      this.announce();
    });
    upstream.on("disconnected", (detail) => this.#onLoss(detail));
  }

  /** Says who leads, and whether there is a connection. */
  announce() {
    this.#post({ kind: "lead", up: this.#up, reason: this.#reason });
  }

  /** The lead goes to another tab. */
  close() {
    this.#closed = true;
    this.#context.upstream.close();
  }

  /** A client of a tab sent a frame. @param {string} member @param {Record<string, any>} frame */
  onFrame(member, frame) {
    const { upstream } = this.#context;
    const known = this.#members.get(member);
    if (frame.type === "connect") return this.#connect(member, frame);
    if (!known) return;
    switch (frame.type) {
      case "subscribe":
        return this.#subscribe(member, frame);
      case "unsubscribe":
        known.queues.delete(frame.queue);
        this.#drop(frame.queue);
        return this.#to(member, { type: "unsubscribed", queue: frame.queue });
      case "presence":
        return this.#watch(member, frame);
      case "receipt":
        for (const { id, state } of frame.receipts) upstream.receipt(id, state);
    }
  }

  /** A client is gone, or its tab. @param {string} member */
  forget(member) {
    const known = this.#members.get(member);
    this.#members.delete(member);
    for (const queue of [...(known?.queues ?? []), ...(known?.watched ?? [])]) this.#drop(queue);
  }

  /** @param {string} member @param {Record<string, any>} frame */
  #connect(member, { queues = [], positions = {} }) {
    const { upstream } = this.#context;
    this.#members.set(member, { queues: new Set(queues), watched: new Set() });
    this.#noticeEnd(member.split(" ")[0] ?? "");
    /** @type {Record<string, {position: string}>} */
    const streams = {};
    /** @type {Record<string, any>[]} */
    const replay = [];
    for (const key of ["user", "everyone", ...queues.map((/** @type {string} */ queue) => `queue:${queue}`)]) {
      const joined = this.#join(key, positions[key]);
      if (joined) {
        streams[key] = { position: joined.at };
        replay.push(...joined.frames);
      } else upstream.subscribe(key.slice(6));
    }
    this.#to(member, { ...this.#session, type: "connected", expiresInMs: undefined, streams });
    for (const frame of replay) this.#to(member, frame);
  }

  /** @param {string} member @param {Record<string, any>} frame */
  #subscribe(member, { queue, position }) {
    this.#members.get(member)?.queues.add(queue);
    const joined = this.#join(`queue:${queue}`, position);
    if (!joined) return this.#context.upstream.subscribe(queue);
    this.#to(member, { type: "subscribed", queue, position: joined.at });
    for (const frame of joined.frames) this.#to(member, frame);
  }

  /** @param {string} member @param {Record<string, any>} frame */
  #watch(member, { queue, watch }) {
    const { upstream } = this.#context;
    const watched = this.#members.get(member)?.watched;
    if (!watch) {
      watched?.delete(queue);
      return this.#drop(queue);
    }
    watched?.add(queue);
    const view = upstream.presence(queue);
    upstream.watchPresence(queue);
    // Any change is newer than this.
    if (view) this.#to(member, { type: "presence", queue, snapshot: true, total: view.total, users: view.users.map((user) => ({ user, online: true, generation: 0 })) });
  }

  /** Leaves what no tab wants any more. @param {string} queue */
  #drop(queue) {
    const members = [...this.#members.values()];
    if (!members.some(({ watched }) => watched.has(queue))) this.#context.upstream.unwatchPresence(queue);
    if (!members.some(({ queues }) => queues.has(queue))) this.#context.upstream.unsubscribe(queue);
  }

  /**
   * Where a tab is in a stream from now on, and what it missed; `null` if the stream
   * is not followed yet.
   *
   * @param {string} key
   * @param {string | undefined} position
   */
  #join(key, position) {
    const head = this.#context.upstream.position(key);
    if (head === undefined) return null;
    if (position === undefined || position === head) return { at: head, frames: [] };
    const frames = this.#context.recent.after(key, position);
    if (frames) return { at: position, frames };
    const [stream, ...queue] = key.split(":");
    return { at: head, frames: [{ type: "gap", stream, ...(queue.length > 0 && { queue: queue.join(":") }), reason: "trimmed", position: head }] };
  }

  /** @param {string} tab */
  #noticeEnd(tab) {
    if (tab === this.#context.id || this.#tabs.has(tab)) return;
    this.#tabs.add(tab);
    this.#context.watch(tab, () => {
      this.#tabs.delete(tab);
      for (const member of [...this.#members.keys()]) if (member.startsWith(`${tab} `)) this.forget(member);
    });
  }

  /** @param {any} detail of `disconnected` */
  #onLoss({ state, code, reason, sentence }) {
    this.#up = false;
    this.#reason = String(reason ?? "");
    if (this.#closed) return;
    if (state !== "disconnected") return this.announce();
    this.#post({ kind: "end", bye: { type: "bye", code: code ?? 4000, reason: this.#reason, message: sentence ?? this.#reason, reconnect: false } });
  }

  /** @param {Record<string, any>} frame */
  #toAll(frame) {
    this.#post({ kind: "frame", frame });
  }

  /** @param {string} member @param {Record<string, any>} frame */
  #to(member, frame) {
    this.#post({ kind: "frame", to: member, frame });
  }

  /** @param {Record<string, any>} message */
  #post(message) {
    if (!this.#closed) this.#context.post({ ...message, term: this.#context.term });
  }
}
