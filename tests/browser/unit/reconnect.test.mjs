// Ends of connections, tokens and rights as networks and devices really have them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { closePolicy } from "../../../edge/web/client/src/close-policy.js";
import { PageLifecycle } from "../../../edge/web/client/src/page-lifecycle.js";
import { TokenSource } from "../../../edge/web/client/src/token-source.js";
import { DashboardWebSocketClient } from "../../../edge/web/client/src/websocket-client.js";
import { packPosition } from "../fake-edge.mjs";
import { FakeWorld, settle } from "./world.mjs";

const at = (offset) => packPosition(1, offset);
const HOUR_MS = 3_600_000;

async function establish({ connected = {}, ...options } = {}) {
  const world = new FakeWorld();
  const client = new DashboardWebSocketClient({ url: "ws://edge/ws", token: async () => "t", receipts: false, world, ...options });
  client.connect();
  await settle();
  world.socket.open();
  world.socket.receive({ type: "connected", streams: {}, ...connected });
  await settle();
  return { world, client };
}

const jwt = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
const subscribes = (socket, queue) => socket.sent.filter((frame) => frame.type === "subscribe" && frame.queue === queue).length;

/** The connection stays alive: its pings are answered. */
async function live(world, seconds, onSecond = () => {}) {
  for (let second = 0; second < seconds; second += 1) {
    await world.pass(1_000);
    world.socket.receive({ type: "pong" });
    onSecond();
  }
}

test("a right that a refresh takes away and another gives back is requested again, once", async () => {
  const { world, client } = await establish({ queues: ["q"], connected: { streams: { "queue:q": { position: at(0) } } } });
  world.socket.receive({ type: "refreshed" }, { type: "unsubscribed", queue: "q" });
  assert.equal(subscribes(world.socket, "q"), 0, "nothing has changed since it was taken back");
  world.socket.receive({ type: "refreshed" });
  assert.equal(subscribes(world.socket, "q"), 1);
  world.socket.receive({ type: "subscribed", queue: "q", position: at(4) }, { type: "refreshed" });
  assert.equal(subscribes(world.socket, "q"), 1, "it is active");
  world.socket.receive({ type: "unsubscribed", queue: "q" });
  client.subscribe("q");
  assert.equal(subscribes(world.socket, "q"), 2, "the page requested it");
});

test("a queue that was refused is requested again after a refresh, on a new connection, or by the page", async () => {
  const { world, client } = await establish();
  const refuse = () => world.socket.receive({ type: "error", code: "forbidden", message: "", field: "queue", queue: "q" });
  client.subscribe("q");
  client.subscribe("other");
  refuse();
  assert.deepEqual([subscribes(world.socket, "q"), subscribes(world.socket, "other")], [1, 1]);
  client.subscribe("q");
  refuse();
  assert.equal(subscribes(world.socket, "q"), 2);
  world.socket.receive({ type: "subscribed", queue: "other", position: at(0) }, { type: "refreshed" });
  assert.deepEqual([subscribes(world.socket, "q"), subscribes(world.socket, "other")], [3, 1]);
  refuse();
  // It is not followed at the edge: there is nothing to leave.
  client.unsubscribe("q");
  assert.ok(!world.socket.sent.some(({ type }) => type === "unsubscribe"));
});

test("a refused queue of the first frame, which the edge does not name, is requested after a refresh", async () => {
  const { world } = await establish({ queues: ["a", "b"], connected: { streams: { "queue:a": { position: at(0) } } } });
  assert.deepEqual(world.socket.sent[0].queues, ["a", "b"]);
  world.socket.receive({ type: "refreshed" });
  assert.deepEqual([subscribes(world.socket, "a"), subscribes(world.socket, "b")], [0, 1]);
});

test("leaving and following again while answers are in flight ends followed", async () => {
  const { world, client } = await establish();
  client.subscribe("q");
  client.unsubscribe("q");
  client.subscribe("q");
  world.socket.receive({ type: "subscribed", queue: "q", position: at(0) }, { type: "unsubscribed", queue: "q" }, { type: "subscribed", queue: "q", position: at(0) }, { type: "refreshed" });
  assert.deepEqual(world.socket.sent.slice(1).map(({ type }) => type), ["subscribe", "unsubscribe", "subscribe"]);
  client.watchPresence("q");
  assert.equal(world.socket.sent.at(-1).type, "presence");
});

for (const [clock, offMs] of [["two hours ahead", 2 * HOUR_MS], ["fifty-nine minutes ahead", HOUR_MS - 60_000], ["two hours behind", -2 * HOUR_MS]]) {
  test(`a clock that is ${clock} costs at most one more token in a minute`, async (t) => {
    const real = Date.now;
    t.after(() => (Date.now = real));
    Date.now = () => real() + offMs;
    let tokens = 0;
    const token = async () => jwt({ sub: "u", exp: Math.floor(real() / 1_000) + 3_600, n: (tokens += 1) });
    const old = await establish({ token });
    await live(old.world, 60, () => old.world.socket.receive({ type: "refreshed" }));
    assert.ok(tokens <= 2, `${tokens} tokens of an edge that does not say how long they last`);
    tokens = 0;
    const now = await establish({ token, connected: { expiresInMs: HOUR_MS } });
    await live(now.world, 3_539);
    assert.equal(tokens, 1);
    await live(now.world, 1);
    assert.equal(tokens, 2, "a minute before it expires, by the edge's clock");
  });
}

test("what the edge says of a token goes before the token's own claims", () => {
  const source = new TokenSource(async () => "", new FakeWorld());
  const cached = jwt({ iat: 0, exp: 3_600 });
  assert.equal(source.refreshInMs(cached, 600_000), 540_000);
  assert.equal(source.refreshInMs(cached), 3_540_000);
  assert.equal(source.refreshInMs("not a token", 90_000), 45_000);
  for (const claims of [{}, { exp: null, iat: null }, { exp: "soon" }, { exp: 1e400 }]) assert.equal(source.refreshInMs(jwt(claims)), null);
  assert.equal(new TokenSource("fixed", new FakeWorld()).refreshInMs("fixed", 600_000), null);
});

for (const code of [1000, 1001, 1003, 1005, 1006, 1007, 1008, 1009, 1015]) {
  test(`close code ${code} without a bye is tried again`, async () => {
    const { world, client } = await establish();
    world.socket.end(code);
    assert.equal(client.state, "connecting");
    await world.pass(1_000);
    assert.equal(world.sockets.length, 2);
  });
}

test("a bye goes before the close code, and the edge's own codes count without one", () => {
  const close = (code, bye = null) => closePolicy({ code, reason: "", bye }, false).reconnect;
  assert.equal(close(1000, { code: 1000, reason: "normal" }), false);
  assert.equal(close(1009, { code: 1009, reason: "too_big", reconnect: false }), false);
  assert.equal(close(1006, { code: 4003, reason: "forbidden" }), false);
  assert.equal(close(4003), false);
  assert.equal(close(4003, { code: 4003, reconnect: true }), true);
  assert.equal(close(4999), true);
});

test("a connection that lived 10 s starts the backoff over, one that did not lets it grow", async () => {
  const { world, client } = await establish();
  const waits = [];
  client.on("state", ({ retryInMs }) => retryInMs !== undefined && waits.push(retryInMs));
  for (const livedMs of [20_000, 20_000, 10_000, 9_999, 9_999, 10_000]) {
    await world.pass(livedMs);
    world.socket.end(1006);
    await world.pass(waits.at(-1));
    world.socket.open();
    world.socket.receive({ type: "connected", streams: {} });
  }
  assert.deepEqual(waits, [1_000, 1_000, 1_000, 2_000, 4_000, 1_000]);
});

test("a window without events, a document without events, and no page at all are listened to quietly", () => {
  const lifecycle = new PageLifecycle({ onResume() {}, onHide() {} });
  for (const [window, document] of [[undefined, undefined], [{}, undefined], [{}, {}], [undefined, { addEventListener: 1 }]]) {
    Object.assign(globalThis, { window, document });
    lifecycle.listen(true);
    lifecycle.listen(false);
  }
  const events = [];
  const target = (name) => ({ addEventListener: (type) => events.push(`+${name} ${type}`), removeEventListener: (type) => events.push(`-${name} ${type}`) });
  Object.assign(globalThis, { window: target("window"), document: target("document") });
  lifecycle.listen(true);
  lifecycle.listen(false);
  delete globalThis.window;
  delete globalThis.document;
  assert.equal(events.filter((event) => event.startsWith("+")).length, 4);
  assert.deepEqual(events.slice(4).map((event) => event.slice(1)), events.slice(0, 4).map((event) => event.slice(1)));
});

test("a client runs where neither TextEncoder nor atob exist", async (t) => {
  const { TextEncoder, TextDecoder, atob } = globalThis;
  t.after(() => Object.assign(globalThis, { TextEncoder, TextDecoder, atob }));
  for (const name of ["TextEncoder", "TextDecoder", "atob"]) delete globalThis[name];
  const { world, client } = await establish({ queues: ["ä", "名"], token: async () => "x.eyJ9.x" });
  assert.equal(client.state, "connected");
  assert.deepEqual(world.socket.sent[0].queues, ["ä", "名"]);
});
