// The handlers of a client, by event type.
//
// Promise: a handler that throws harms no other and is reported as `error`; no type
// has more than `MAX_HANDLERS`; handlers may be added and removed while others run.

/** Handlers of one type at most. */
const MAX_HANDLERS = 256;

/** @typedef {(detail: any) => unknown} Handler */

/** Handlers by type. */
export class Handlers {
  /** @type {Map<string, Set<Handler>>} */
  #handlers = new Map();

  /**
   * @param {string} type
   * @param {Handler} handler
   * @returns {() => void} removes the handler
   * @throws {RangeError} at the 257th handler of a type
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    if (handlers.size >= MAX_HANDLERS) {
      throw new RangeError(`\`${type}\` has ${MAX_HANDLERS} handlers already: call the function that \`on\` returned to remove one`);
    }
    handlers.add(handler);
    this.#handlers.set(type, handlers);
    return () => {
      if (handlers.delete(handler) && handlers.size === 0) this.#handlers.delete(type);
    };
  }

  /** The same, for the next time only. @param {string} type @param {Handler} handler @returns {() => void} */
  once(type, handler) {
    const off = this.on(type, (detail) => {
      off();
      return handler(detail);
    });
    return off;
  }

  /** @param {string} type @param {any} detail */
  emit(type, detail) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) {
      try {
        handler(detail);
      } catch (cause) {
        console.error(cause);
        const failure = { type: "error", code: "handler_failed", message: `a handler of \`${type}\` threw: ${cause}` };
        if (type !== "error") this.emit("error", failure);
      }
    }
  }
}
