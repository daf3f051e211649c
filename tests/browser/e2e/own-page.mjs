// A page of somebody else on an origin of its own: three script tags and a token
// endpoint, nothing of ours. Its server is a plain file server as well.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const DIST = new URL("../../../edge/web/client/dist/", import.meta.url);

/** Where a page shows its connection. */
export const STATUS = '<p id="ws-connection-status"></p>';

/** The three tags, in their order. @param {string} base @param {string} attributes */
export const tags = (base, attributes = "") =>
  ["toast-notifications", "websocket-client", "dashboard-websocket-init"].map((name) => `<script src="${base}js/${name}.js" ${attributes}></script>`).join("\n");

/** A picture that is ready. @param {number | string} n @param {Record<string, any>} [more] */
export const picture = (n, more = {}) => ({ documentId: `d${n}`, documentType: "passport_picture", jobId: `j${n}`, ...more });

/** Serves pages, tokens, and the client's files on a port of its own. */
export class Site {
  /** By path: HTML and headers. @type {Map<string, {html: string, headers?: Record<string, string>}>} */
  pages = new Map();
  /** Users that tokens were requested for. */
  tokens = [];
  /** What `/held` waits for, and whom it notifies. @type {{requested: () => void, released: Promise<void>} | null} */
  #held = null;
  #server;

  /** @param {(user: string) => string | Promise<string>} sign */
  static async start(sign) {
    const site = new Site();
    site.#server = createServer(async (request, response) => {
      const { pathname } = new URL(request.url, "http://site");
      if (pathname === "/token") {
        let body = "";
        for await (const chunk of request) body += chunk;
        const { user } = JSON.parse(body || "{}");
        site.tokens.push(user);
        const token = await sign(user);
        response.writeHead(token ? 200 : 403, { "Content-Type": "application/json" });
        return response.end(JSON.stringify(token ? { token } : {}));
      }
      const script = /^\/js\/([\w-]+\.m?js)$/.exec(pathname)?.[1];
      if (script) {
        response.writeHead(200, { "Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*" });
        return response.end(await readFile(new URL(script, DIST)));
      }
      if (pathname === "/held" && site.#held) {
        site.#held.requested();
        await site.#held.released;
        return response.writeHead(204).end();
      }
      const page = site.pages.get(pathname);
      response.writeHead(page ? 200 : 404, { "Content-Type": "text/html; charset=utf-8", ...page?.headers });
      response.end(page?.html ?? "");
    });
    await new Promise((resolve) => site.#server.listen(0, "127.0.0.1", () => resolve(null)));
    site.origin = `http://127.0.0.1:${site.#server.address().port}`;
    return site;
  }

  /** @param {string} path @param {string} body @param {{head?: string, attributes?: string, headers?: Record<string, string>}} [more] */
  page(path, body, { head = "", attributes = 'data-user-id="u1" data-token-url="/token"', headers } = {}) {
    const html = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title><link rel="icon" href="data:,">${head}</head><body ${attributes}>${body}</body></html>`;
    this.pages.set(path, { html, headers });
    return `${this.origin}${path}`;
  }

  /** From now on `/held` is answered when the caller releases it, and not before. */
  hold() {
    let [arrive, release] = [() => {}, () => {}];
    const requested = /** @type {Promise<void>} */ (new Promise((resolve) => (arrive = resolve)));
    const released = /** @type {Promise<void>} */ (new Promise((resolve) => (release = resolve)));
    this.#held = { requested: arrive, released };
    return { requested, release };
  }

  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A token of the fake edge. @param {string} user @param {number} [lastsMs] */
export function fakeToken(user, lastsMs = 3_600_000) {
  const now = Math.floor(Date.now() / 1_000);
  return `fake.${Buffer.from(JSON.stringify({ sub: user, queues: ["*"], iat: now, exp: now + lastsMs / 1_000 })).toString("base64url")}.x`;
}
