// A fake edge and fake processors that do what a test says.
//
// Promise: frames as edge/PROTOCOL.md has them, a log per stream with real
// positions, the edge's own CSP; everything wrong that it does was requested.
// `node fake-edge.mjs` serves the dashboard for developing.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { FakeWorks } from "./fake-works.mjs";

const WEB = new URL("../../edge/web/", import.meta.url);
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".jpg": "image/jpeg", ".wav": "audio/wav" };
const CSP =
  "default-src 'self'; connect-src 'self' ws: wss: http: https:; img-src 'self' data: blob: http: https:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/** Events that a log keeps. */
const RETAINED = 1_000;
/** What a client may say of an event, the least first. */
const STATES = ["delivered", "displayed", "dismissed", "read"];
/** How long a token is accepted after the end that it names. */
const LEEWAY_MS = 4_500;
/** Receipts in one frame at most. */
const MAX_RECEIPTS = 100;

/** Epoch, offset and check, packed as an edge packs them. */
export function packPosition(epoch, offset, check = offset === 0 ? 0 : 7) {
  const packed = Buffer.alloc(20);
  packed.writeBigUInt64BE(BigInt(epoch), 0);
  packed.writeBigUInt64BE(BigInt(offset), 8);
  packed.writeUInt32BE(check, 16);
  return packed.toString("base64url");
}

function unpackPosition(text) {
  const packed = Buffer.from(text, "base64url");
  return { epoch: Number(packed.readBigUInt64BE(0)), offset: Number(packed.readBigUInt64BE(8)) };
}

/** The file below `WEB` that an edge serves at a path. */
function fileName(pathname) {
  if (pathname === "/") return "dashboard/dashboard.html";
  // As the edge serves it: the bundle.
  if (/^\/web\/dashboard\.(js|css)$/.test(pathname)) return `dashboard/dist${pathname.slice(4)}`;
  const [, folder, name] = /^\/(\w+)\/(.*)$/.exec(pathname) ?? [];
  if (folder === "js") return `client/dist/${name}`;
  if (folder === "belfry") return `client/src/${name}`;
  return folder === "web" && name.includes("/") ? name : `dashboard/${name}`;
}

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

/** The claims of a token that is none of a test's own. */
function claimsOf(token) {
  try {
    return JSON.parse(Buffer.from(String(token).split(".")[1], "base64url").toString());
  } catch {
    return { sub: "demo", queues: ["*"] };
  }
}

function grants(claims, queue) {
  return (claims.queues ?? []).some((grant) => (grant.endsWith("*") ? queue.startsWith(grant.slice(0, -1)) : queue === grant));
}

export class FakeEdge {
  /** What the tests look at. */
  connects = [];
  /** By event id: the states that were reported, each report once. */
  receipts = new Map();
  receiptFrames = 0;
  pings = 0;
  commands = [];
  tokens = 0;
  /** What the tests switch. */
  answersPings = true;
  devTokens = true;
  refuseWith = null;
  /** Whether a page may connect, as `/ws/origin` says. */
  letsOriginIn = true;
  /** How long tokens last, in milliseconds. */
  tokenLastsMs = 3_600_000;
  /** Reports and transcriptions. */
  works = new FakeWorks(this);
  /** Pages of a test's own: path to type and text. */
  pages = new Map();
  /** Queues that are refused though the token grants them. */
  refuses = new Set();
  /** An edge of before receipts and presence. */
  old = false;
  #epoch = 41;
  #logs = new Map();
  #sessions = new Set();
  #documents = [];
  #sockets = new WebSocketServer({ noServer: true });
  /** What was read or dismissed. */
  #retracts = new Map();
  /** By queue: users who are there without a session, as a test wants it. */
  #guests = new Map();
  #generation = 0;

  static async start() {
    const edge = new FakeEdge();
    edge.http = createServer((request, response) => void edge.#page(request, response));
    edge.http.on("upgrade", (request, socket, head) => {
      if (!edge.letsOriginIn) return socket.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
      edge.#sockets.handleUpgrade(request, socket, head, (ws) => edge.#accept(ws));
    });
    edge.processors = createServer((request, response) => void edge.#processor(request, response));
    edge.url = `http://127.0.0.1:${await listen(edge.http)}/`;
    edge.processorsUrl = `http://127.0.0.1:${await listen(edge.processors)}`;
    return edge;
  }

  async stop() {
    for (const ws of this.#sockets.clients) ws.terminate();
    for (const server of [this.http, this.processors]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  get wsUrl() {
    return `${this.url.replace("http", "ws")}ws`;
  }

  get sessions() {
    return this.#sessions.size;
  }

  /** Stores an event and sends it to who follows: the log's own offset, or one that a test forces. */
  publish(type, fields = {}, { stream = "user", queue, send = true } = {}) {
    const key = stream === "queue" ? `queue:${queue}` : stream;
    const log = this.#log(key);
    const offset = log.head + 1;
    const event = { type, id: randomUUID(), stream, ...(queue && { queue }), offset, position: packPosition(this.#epoch, offset), timestamp: new Date().toISOString(), ...fields };
    log.head = offset;
    log.events = [...log.events, event].slice(-RETAINED);
    if (send) this.send(event, key);
    return event;
  }

  /** An event without a place. */
  ephemeral(type, fields) {
    this.send({ type, id: randomUUID(), stream: "user", timestamp: new Date().toISOString(), ...fields });
  }

  /** A frame to every session, or to those that follow `key`. */
  send(frame, key) {
    for (const session of this.#sessions) if (!key || session.follows.has(key)) session.ws.send(JSON.stringify(frame));
  }

  /** What the processors list. */
  list(documents) {
    this.#documents = documents;
  }

  /** Cuts every connection without a bye. */
  cut() {
    for (const { ws } of this.#sessions) ws.terminate();
  }

  /** Sends `bye` and closes, as an edge does. */
  bye(code, reason, rest = {}) {
    for (const { ws } of this.#sessions) {
      ws.send(JSON.stringify({ type: "bye", code, reason, message: reason, ...rest }));
      ws.close(code, reason);
    }
  }

  /** The position of a stream's last event. */
  head(key) {
    return packPosition(this.#epoch, this.#log(key).head);
  }

  /** Another log: positions of the old one are worth nothing. */
  newEpoch() {
    this.#epoch += 1;
    this.#logs.clear();
  }

  /** Retention removes everything up to the head. */
  trim(key) {
    this.#log(key).events = [];
  }

  #log(key) {
    const log = this.#logs.get(key) ?? { head: 0, events: [] };
    this.#logs.set(key, log);
    return log;
  }

  /** Somebody else comes to a queue, or goes: sent to sessions that watch. */
  guest(queue, user, online, generation = ++this.#generation) {
    const guests = this.#guests.get(queue) ?? new Map();
    this.#guests.set(queue, guests);
    if (online) guests.set(user, generation);
    else guests.delete(user);
    this.#sendPresence(queue, { user, online, generation });
  }

  #sendPresence(queue, member) {
    for (const session of this.#sessions) {
      if (session.watches.has(queue)) session.ws.send(JSON.stringify({ type: "presence", queue, users: [member] }));
    }
  }

  #presenceOf(queue) {
    const users = new Map(this.#guests.get(queue) ?? []);
    for (const session of this.#sessions) {
      if (session.follows.has(`queue:${queue}`)) users.set(session.claims.sub, session.generation);
    }
    return [...users].map(([user, generation]) => ({ user, online: true, generation }));
  }

  #watch(session, { queue, watch }, answer) {
    if (!session.follows.has(`queue:${queue}`)) return answer({ type: "error", code: "forbidden", message: "not followed", field: "queue", queue });
    if (!watch) return session.watches.delete(queue);
    session.watches.add(queue);
    const users = this.#presenceOf(queue);
    answer({ type: "presence", queue, snapshot: true, total: users.length, users });
  }

  #receipt({ receipts }, answer) {
    const good = Array.isArray(receipts) && receipts.length >= 1 && receipts.length <= MAX_RECEIPTS && receipts.every(({ id, state }) => typeof id === "string" && STATES.includes(state));
    if (!good) return answer({ type: "error", code: "bad_request", message: "1 to 100 receipts", field: "receipts" });
    this.receiptFrames += 1;
    for (const { id, state } of receipts) {
      this.receipts.set(id, [...(this.receipts.get(id) ?? []), state]);
      if ((state !== "read" && state !== "dismissed") || this.#retracts.has(id)) continue;
      const retract = { type: "retract", id, reason: state };
      this.#retracts.set(id, retract);
      for (const each of this.#sessions) each.ws.send(JSON.stringify(retract));
    }
  }

  #accept(ws) {
    const session = { ws, follows: new Set(), watches: new Set(), claims: claimsOf(""), generation: 0 };
    const gone = () => {
      if (!this.#sessions.delete(session)) return;
      for (const key of session.follows) {
        const queue = /^queue:(.*)$/.exec(key)?.[1];
        const still = queue === undefined || this.#presenceOf(queue).some(({ user }) => user === session.claims.sub);
        if (!still) this.#sendPresence(queue, { user: session.claims.sub, online: false, generation: ++this.#generation });
      }
    };
    ws.on("close", gone);
    ws.on("error", gone);
    ws.on("message", (data) => this.#command(session, JSON.parse(String(data))));
  }

  #command(session, frame) {
    const answer = (reply) => session.ws.send(JSON.stringify(reply));
    if (frame.type === "connect") return this.#connect(session, frame);
    if (frame.type === "ping") {
      this.pings += 1;
      if (this.answersPings) answer({ type: "pong" });
      return;
    }
    if (this.old && (frame.type === "receipt" || frame.type === "presence")) {
      return answer({ type: "error", code: "bad_request", message: "`type` must be another", field: "type" });
    }
    if (frame.type === "receipt") return this.#receipt(frame, answer);
    this.commands.push(frame);
    if (frame.type === "presence") return this.#watch(session, frame, answer);
    if (frame.type === "refresh") answer({ type: "refreshed", expiresAt: new Date(Date.now() + this.tokenLastsMs).toISOString(), expiresInMs: this.tokenLastsMs + LEEWAY_MS });
    if (frame.type === "subscribe") {
      if (!grants(session.claims, frame.queue) || this.refuses.has(frame.queue)) return answer({ type: "error", code: "forbidden", message: "the credential does not allow this", field: "queue", queue: frame.queue });
      const key = `queue:${frame.queue}`;
      const { at, frames } = this.#join(session, key, frame.position);
      answer({ type: "subscribed", queue: frame.queue, position: at });
      frames.forEach(answer);
    }
    if (frame.type === "unsubscribe") {
      session.follows.delete(`queue:${frame.queue}`);
      session.watches.delete(frame.queue);
      answer({ type: "unsubscribed", queue: frame.queue });
    }
  }

  #connect(session, frame) {
    this.connects.push(frame);
    if (this.refuseWith) {
      const { code, reason, ...rest } = this.refuseWith;
      session.ws.send(JSON.stringify({ type: "bye", code, reason, message: reason, ...rest }));
      return session.ws.close(code, reason);
    }
    session.claims = claimsOf(frame.token);
    session.generation = ++this.#generation;
    const streams = {};
    const after = [];
    for (const key of ["user", "everyone", ...(frame.queues ?? []).filter((queue) => grants(session.claims, queue)).map((queue) => `queue:${queue}`)]) {
      const { at, frames } = this.#join(session, key, frame.positions?.[key]);
      streams[key] = { position: at };
      after.push(...frames);
    }
    this.#sessions.add(session);
    session.ws.send(JSON.stringify({ type: "connected", session: randomUUID(), user: session.claims.sub ?? "demo", heartbeatMs: 30_000, expiresInMs: this.tokenLastsMs + LEEWAY_MS, streams }));
    const events = after.filter((reply) => reply.type !== "gap");
    for (const gap of after.filter((reply) => reply.type === "gap")) session.ws.send(JSON.stringify(gap));
    if (events.length > 0) session.ws.send(JSON.stringify({ type: "batch", events }));
    for (const retract of this.#retracts.values()) session.ws.send(JSON.stringify(retract));
  }

  /** Where a reader stands in a stream now, and what it has to be sent. */
  #join(session, key, position) {
    const log = this.#log(key);
    session.follows.add(key);
    const head = packPosition(this.#epoch, log.head);
    if (position === undefined) return { at: head, frames: [] };
    const from = unpackPosition(position);
    const first = log.events[0]?.offset ?? log.head + 1;
    const [stream, queue] = key.split(":");
    const gap = { type: "gap", stream, ...(queue && { queue }), from: from.offset, to: log.head, position: head };
    if (from.epoch !== this.#epoch) return { at: head, frames: [{ ...gap, reason: "epoch_changed" }] };
    if (from.offset > log.head) return { at: head, frames: [{ ...gap, reason: "ahead" }] };
    if (first > from.offset + 1) return { at: head, frames: [{ ...gap, reason: "trimmed" }] };
    return { at: position, frames: log.events.filter((event) => event.offset > from.offset) };
  }

  async #page(request, response) {
    const { pathname } = new URL(request.url, this.url);
    response.setHeader("Content-Security-Policy", CSP);
    if (pathname.startsWith("/js/")) response.setHeader("Access-Control-Allow-Origin", "*");
    if (pathname === "/ws/origin") return json(response, 200, { allowed: this.letsOriginIn });
    if (pathname === "/dev/token") return this.#token(request, response);
    const own = this.pages.get(pathname);
    if (own) return response.writeHead(200, { "Content-Type": own.type }).end(own.text);
    const name = fileName(pathname);
    try {
      const bytes = await readFile(new URL(name, WEB));
      response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" }).end(pathname === "/" ? this.#configured(bytes) : bytes);
    } catch {
      json(response, 404, {});
    }
  }

  /** The page with its configuration, as an edge writes it. */
  #configured(page) {
    const config = JSON.stringify({ wsUrl: "/ws", processorsUrl: this.processorsUrl, devTokens: this.devTokens });
    return String(page).replace('name="belfry-config" content=""', `name="belfry-config" content="${config.replaceAll('"', "&quot;")}"`);
  }

  async #token(request, response) {
    this.tokens += 1;
    const { user, queues } = JSON.parse((await bodyOf(request)) || "{}");
    const now = Math.floor(Date.now() / 1_000);
    const claims = { sub: user ?? "demo", queues, iat: now, exp: now + 3_600 };
    const token = `fake.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.${this.tokens}`;
    json(response, 200, { token, expiresInMs: this.tokenLastsMs, user: claims.sub });
  }

  async #processor(request, response) {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Allow-Headers", "authorization, content-type");
    response.setHeader("Access-Control-Allow-Methods", "GET, POST, DELETE");
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    if (request.url.startsWith("/files/")) {
      return response.writeHead(200, { "Content-Type": "image/jpeg" }).end(await readFile(new URL("dashboard/sample.jpg", WEB)));
    }
    const body = await bodyOf(request);
    if (this.works.answer(request, body, (status, value) => json(response, status, value), response)) return;
    if (request.method === "GET") return json(response, 200, { images: this.#documents });
    this.#work(body, response);
  }

  /** A picture is "worked on" at once; whatever is no JPEG or PNG fails. */
  #work(body, response) {
    const documentId = randomUUID();
    const jobId = randomUUID();
    const documentType = /name="documentType"\r\n\r\n([^\r]*)/.exec(body)?.[1] ?? "picture";
    const base = { documentId, documentType, jobId };
    this.publish("image_processing_started", { ...base, status: "pending" });
    this.ephemeral("job_progress", { jobId, percent: 40, stage: "making the thumbnail", resourceId: documentId });
    const good = /\r\n\r\n(\xff\xd8\xff|\x89PNG)/.test(body);
    const link = `${this.processorsUrl}/files/${documentId}`;
    const end = good
      ? { ...base, status: "completed", signedUrl: link, thumbnailUrl: link, signedUrlExpiresAt: new Date(Date.now() + 3_600_000).toISOString(), processingDuration: 412, width: 1600, height: 1200 }
      : { ...base, status: "failed", errorCode: "unsupported_format", error: "This file is not a picture we can read." };
    this.#documents = [{ ...end, createdAt: new Date().toISOString() }, ...this.#documents].slice(0, 100);
    json(response, 202, { documentId, jobId, status: "pending" });
    this.publish(good ? "image_processed" : "image_processing_failed", end);
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("latin1");
}

function json(response, status, value) {
  response.writeHead(status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json" }).end(JSON.stringify(value));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const edge = await FakeEdge.start();
  console.log(`the dashboard, with a fake edge behind it: ${edge.url}`);
}
