// A world without a network and with a clock that only tests move.

/** One fake socket; the test plays the edge. */
export class FakeSocket {
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closedWith = null;

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code, reason) {
    this.readyState = 3;
    this.closedWith = { code, reason };
  }

  /** The edge sends frames. */
  receive(...frames) {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** The connection ends from the other side. */
  end(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code, reason: "" });
  }
}

/** Clock, timers, randomness and the sockets that were opened. */
export class FakeWorld {
  sockets = [];
  random = () => 1;
  #now = 0;
  #timers = new Map();
  #next = 1;

  constructor() {
    const world = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url) {
        super();
        this.url = url;
        world.sockets.push(this);
      }
    };
    this.setTimeout = (run, ms) => {
      this.#timers.set(this.#next, { run, at: this.#now + ms });
      return this.#next++;
    };
    this.clearTimeout = (timer) => this.#timers.delete(timer);
    this.now = () => this.#now;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get timers() {
    return this.#timers.size;
  }

  /** Lets time pass, timer by timer, and promises in between. */
  async pass(ms) {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, timer]) => timer.at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#now = Math.max(this.#now, due[1].at);
      this.#timers.delete(due[0]);
      due[1].run();
    }
    this.#now = until;
  }
}

/** Lets everything that waits for promises run. */
export async function settle() {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}
