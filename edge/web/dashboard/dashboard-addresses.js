// Addresses as this page reaches them.
//
// Promise: pure. What begins with `/` lies beside the page, whatever host, prefix or
// TLS a proxy put before the edge; an address of the machine behind that proxy, which
// this browser cannot reach or must not mix in, is taken from beside the page too.

import { isInside } from "../client/src/event-links.js";

/**
 * The configuration of the edge that served the page.
 *
 * @typedef {object} PageConfig
 * @property {string} wsUrl an address, or a path that begins with `/`
 * @property {string} processorsUrl the same
 * @property {boolean} devTokens whether the edge gives development tokens
 */

/** @returns {PageConfig} what the edge wrote into the page, or the defaults */
export function readConfig() {
  const content = document.querySelector('meta[name="belfry-config"]')?.getAttribute("content") || "{}";
  return { wsUrl: "/ws", processorsUrl: "/processors", devTokens: false, ...JSON.parse(content) };
}

/** The addresses of one page. */
export class Addresses {
  /** Of the WebSocket. */
  ws;
  /** Of the processors, without a slash at its end. */
  processors;
  #page;

  /** @param {PageConfig} config @param {string} page the page's own address */
  constructor({ wsUrl, processorsUrl }, page) {
    this.#page = new URL(page);
    const ws = wsUrl.startsWith("/") ? this.beside(wsUrl) : new URL(wsUrl);
    ws.protocol = ws.protocol.replace(/^http/, "ws");
    this.ws = ws.href;
    const own = processorsUrl.startsWith("/") || isInside(new URL(processorsUrl), this.#page);
    const processors = own ? this.beside(processorsUrl.startsWith("/") ? processorsUrl : "/processors").href : processorsUrl;
    this.processors = processors.replace(/\/$/, "");
  }

  /**
   * The address of something that lies beside the page.
   *
   * @param {string} path begins with `/`
   * @returns {URL}
   */
  beside(path) {
    return new URL(`.${path}`, this.#page);
  }

  /**
   * A link to a file of the processors; any other link is left as it is.
   *
   * @template {string | null | undefined} L
   * @param {L} link
   * @returns {L | string}
   */
  link(link) {
    if (!link || !URL.canParse(link)) return link;
    const url = new URL(link);
    return isInside(url, this.#page) ? `${this.processors}${url.pathname}${url.search}` : link;
  }
}
