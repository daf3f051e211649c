// The client against a fake edge and a fake clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Positions } from "../../../edge/web/client/src/positions.js";
import { DashboardWebSocketClient } from "../../../edge/web/client/src/websocket-client.js";
import { packPosition } from "../fake-edge.mjs";
import { FakeWorld, settle } from "./world.mjs";

const at = (offset) => packPosition(1, offset);
const event = (offset, rest = {}) => ({ type: "image_processed", id: `e${offset}`, stream: "user", offset, position: at(offset), ...rest });
const connected = (offset = 0) => ({ type: "connected", session: "s", user: "u", streams: { user: { position: at(offset) }, everyone: { position: at(0) } } });

/** A client that is connected, and everything that it emitted. */
async function start(options = {}) {
  const world = new FakeWorld();
  const client = new DashboardWebSocketClient({ url: "ws://edge/ws", token: async () => "fresh", receipts: false, world, ...options });
  const seen = [];
  for (const type of ["event", "gap", "degraded", "recovered", "error", "bye", "connected", "subscribed"]) {
    client.on(type, (detail) => seen.push(type === "event" ? `event ${detail.offset ?? "-"}` : `${type}${detail.code ? ` ${detail.code}` : ""}`));
  }
  client.connect();
  await settle();
  world.socket?.open();
  return { world, client, seen };
}

async function establish(options) {
  const all = await start(options);
  all.world.socket.receive(connected());
  all.seen.length = 0;
  return all;
}

/** The next attempt comes within 30 s, whatever the jitter. */
async function reconnect(world) {
  const before = world.sockets.length;
  for (let waits = 0; waits < 300 && world.sockets.length === before; waits += 1) await world.pass(100);
  assert.equal(world.sockets.length, before + 1, "one new socket");
  world.socket.open();
  return world.socket.sent[0];
}

test("the first frame is connect, with token, queues and no position of a new page", async () => {
  const { world, client } = await start({ queues: ["support"] });
  assert.equal(client.state, "connecting");
  assert.deepEqual(world.socket.sent, [{ type: "connect", token: "fresh", positions: {}, queues: ["support"] }]);
  world.socket.receive(connected());
  assert.equal(client.state, "connected");
});

test("a device that has a name says it", async () => {
  const { world } = await start({ device: "tablet-7" });
  assert.equal(world.socket.sent[0].device, "tablet-7");
});

test("a batch is unpacked and a reconnect resumes after its last event", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "batch", events: [event(1), event(2)] }, event(3));
  assert.deepEqual(seen, ["event 1", "event 2", "event 3"]);
  assert.equal(client.position("user"), at(3));
  world.socket.end();
  assert.equal(client.state, "connecting");
  assert.deepEqual((await reconnect(world)).positions, { user: at(3), everyone: at(0) });
});

test("duplicates at the seam are dropped", async () => {
  const { world, seen } = await establish();
  world.socket.receive(event(1), event(2));
  world.socket.end();
  await reconnect(world);
  world.socket.receive(connected(2), { type: "batch", events: [event(2), event(3)] });
  assert.deepEqual(seen.filter((entry) => entry.startsWith("event")), ["event 1", "event 2", "event 3"]);
});

test("a hole is a protocol error: back with the last good position", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "batch", events: [event(1), event(3), event(4)] });
  assert.deepEqual(seen, ["event 1", "error order_broken"]);
  assert.equal(client.state, "connecting");
  assert.equal((await reconnect(world)).positions.user, at(1));
});

test("a position counts only after the handlers of its event ran, even one that throws", async () => {
  const { world, client, seen } = await establish();
  const during = [];
  client.on("image_processed", () => during.push(client.position("user")));
  client.on("image_processed", () => {
    throw new Error("boom");
  });
  const { error } = console;
  console.error = () => {};
  world.socket.receive(event(1));
  console.error = error;
  assert.deepEqual(during, [at(0)]);
  assert.equal(client.position("user"), at(1));
  assert.ok(seen.includes("error handler_failed"));
});

test("a handler that closes the client in the middle of a batch receives no more", async () => {
  const { world, client, seen } = await establish();
  client.once("image_processed", () => client.close());
  world.socket.receive({ type: "batch", events: [event(1), event(2)] });
  assert.deepEqual(seen, ["event 1"]);
  assert.equal(client.state, "disconnected");
  assert.deepEqual(world.socket.closedWith, { code: 1000, reason: "closed by the page" });
  await world.pass(120_000);
  assert.equal(world.sockets.length, 1);
});

test("a gap moves the position and is emitted", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "gap", stream: "user", reason: "trimmed", from: 0, to: 40, position: at(40) }, event(41));
  assert.deepEqual(seen, ["gap", "event 41"]);
  assert.equal(client.position("user"), at(41));
});

test("the heartbeat pings every 30 s, and 5 s without a pong end the connection", async () => {
  const { world, client } = await establish();
  const pings = () => world.socket.sent.filter((frame) => frame.type === "ping").length;
  await world.pass(1_000);
  assert.equal(pings(), 1, "the first one shows that this edge answers");
  world.socket.receive({ type: "pong" });
  await world.pass(30_000);
  assert.equal(pings(), 2);
  await world.pass(4_999);
  assert.equal(client.state, "connected");
  await world.pass(1);
  assert.equal(client.state, "connecting");
  assert.equal(world.sockets[0].closedWith.code, 4000);
});

test("an edge that goes silent at the worst moment is noticed within 35 s", async () => {
  const { world, client } = await establish();
  await world.pass(1_000);
  // Dead right after this one: the longest that silence can go unnoticed.
  world.socket.receive({ type: "pong" });
  await world.pass(34_999);
  assert.equal(client.state, "connected");
  await world.pass(1);
  assert.equal(client.state, "connecting");
});

test("an edge that answers no pings is kept while it sends anything else", async () => {
  const { world, client } = await establish();
  for (let minute = 1; minute <= 5; minute += 1) {
    await world.pass(60_000);
    world.socket.receive(event(minute));
  }
  assert.equal(world.sockets.length, 1);
  await world.pass(65_000 + 30_000);
  assert.equal(client.state, "connecting", "silence for longer ends it");
});

test("when the network may be gone, a live edge has 2 s to answer", async () => {
  const { world, client } = await establish();
  await world.pass(1_000);
  world.socket.receive({ type: "pong" });
  client.reconnect();
  assert.equal(world.socket.sent.at(-1).type, "ping");
  await world.pass(1_999);
  assert.equal(client.state, "connected");
  await world.pass(1);
  assert.equal(client.state, "connecting");
});

test("an edge that never says connected is given up after 35 s", async () => {
  const { world, client } = await start();
  await world.pass(34_999);
  assert.equal(world.sockets[0].closedWith, null);
  await world.pass(1);
  assert.ok(world.sockets[0].closedWith);
  assert.equal(client.state, "connecting");
});

test("a handler for what never comes is refused with the nearest name", async () => {
  const { client } = await start();
  for (const [wrong, right] of [["image_procesed", "image_processed"], ["imageProcessed", "image_processed"], ["disconnect", "disconnected"], ["pdf-generated", "pdf_generated"], ["GAP", "gap"]]) {
    assert.throws(() => client.on(wrong, () => {}), new RegExp(`no event .*${wrong}.*did you mean .${right.replace("*", "\\*")}`), wrong);
  }
  assert.throws(() => client.once("conected", () => {}), TypeError);
  for (const name of ["*", "event", "connected", "disconnected", "error", "gap", "state", "job_progress", "custom"]) client.on(name, () => {});
});

test("`*` receives every event, and `disconnected` each loss of the connection", async () => {
  const { world, client } = await establish();
  const names = [];
  client.on("*", ({ type }) => names.push(type));
  client.on("disconnected", ({ state, retryInMs }) => names.push(`${state} ${retryInMs}`));
  world.socket.receive(event(1));
  world.socket.end();
  assert.deepEqual(names, ["image_processed", "connecting 1000"]);
  client.close();
  client.close();
  assert.deepEqual(names.slice(2), ["disconnected undefined"]);
});

test("an interval that no timer can hold is refused, and one that is not given has its default", () => {
  new DashboardWebSocketClient({ url: "ws://edge/ws", token: "t", heartbeatInterval: undefined, queues: undefined });
  for (const heartbeatInterval of [0, -1, NaN, 2 ** 31]) {
    assert.throws(() => new DashboardWebSocketClient({ url: "ws://edge/ws", token: "t", heartbeatInterval }), /heartbeatInterval/);
  }
});

test("bye with reconnect false ends it", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "bye", code: 4003, reason: "forbidden", message: "no", reconnect: false });
  world.socket.end(4003);
  assert.deepEqual(seen, ["bye 4003"]);
  assert.equal(client.state, "disconnected");
  await world.pass(120_000);
  assert.equal(world.sockets.length, 1);
});

test("a close code that can only fail again ends it without a bye too", async () => {
  const { world, client } = await establish();
  world.socket.end(4009);
  assert.equal(client.state, "disconnected");
});

test("retryAfterMs is waited for", async () => {
  const { world } = await establish();
  world.random = () => 0;
  world.socket.receive({ type: "bye", code: 1012, reason: "restart", message: "", reconnect: true, retryAfterMs: 7_000 });
  world.socket.end(1012);
  await world.pass(6_999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.sockets.length, 2);
});

test("an expired token is replaced by a fresh one, and the cause is passed on", async () => {
  const causes = [];
  const token = async (cause) => `token ${causes.push(cause)}`;
  const { world } = await establish({ token });
  world.socket.receive({ type: "bye", code: 4002, reason: "token_expired", message: "", reconnect: true });
  world.socket.end(4002);
  const first = await reconnect(world);
  assert.equal(first.token, "token 2");
  assert.deepEqual(causes, ["connect", "expired"]);
});

test("a fixed token that is refused is not sent again", async () => {
  const { world, client } = await establish({ token: "fixed" });
  world.socket.receive({ type: "bye", code: 4001, reason: "unauthenticated", message: "", reconnect: true });
  world.socket.end(4001);
  assert.equal(client.state, "disconnected");
});

test("a token function that fails or hangs is tried again later", async () => {
  let calls = 0;
  const token = () => (++calls === 1 ? Promise.reject(new Error("down")) : calls === 2 ? new Promise(() => {}) : Promise.resolve("t"));
  const { world, seen, client } = await start({ token });
  assert.deepEqual(seen, ["error token_failed"]);
  await world.pass(1_000 + 20_000 + 2_000);
  assert.equal(calls, 3);
  assert.equal(world.sockets.length, 1);
  assert.equal(client.state, "connecting");
});

test("a token is refreshed before it ends", async () => {
  const claims = Buffer.from(JSON.stringify({ iat: 1_000, exp: 1_600 })).toString("base64url");
  let calls = 0;
  const { world } = await establish({ token: async () => `h.${claims}.s${++calls}`, heartbeatInterval: 3_600_000 });
  await world.pass(1_000);
  world.socket.receive({ type: "pong" });
  await world.pass(538_999);
  assert.equal(calls, 1);
  await world.pass(1);
  assert.deepEqual(world.socket.sent.at(-1), { type: "refresh", token: `h.${claims}.s2` });
});

test("queues are requested once, resumed with their position, and given up", async () => {
  const { world, client } = await establish();
  client.subscribe("support");
  client.subscribe("support");
  assert.deepEqual(world.socket.sent.slice(1), [{ type: "subscribe", queue: "support" }]);
  world.socket.receive({ type: "subscribed", queue: "support", position: at(5) });
  world.socket.receive(event(6, { stream: "queue", queue: "support" }));
  world.socket.end();
  const first = await reconnect(world);
  assert.deepEqual(first.queues, ["support"]);
  assert.equal(first.positions["queue:support"], at(6));
  world.socket.receive(connected());
  client.unsubscribe("support");
  assert.deepEqual(world.socket.sent.at(-1), { type: "unsubscribe", queue: "support" });
  world.socket.receive(event(7, { stream: "queue", queue: "support" }));
  assert.equal(client.position("queue:support"), undefined);
});

const queued = (queue, offset) => event(offset, { stream: "queue", queue });

test("a queue that a handler leaves while its event is handled has no position any more", async () => {
  const { world, client } = await establish();
  client.subscribe("q");
  world.socket.receive({ type: "subscribed", queue: "q", position: at(0) });
  client.once("event", () => client.unsubscribe("q"));
  world.socket.receive(queued("q", 1));
  assert.equal(client.position("queue:q"), undefined);
  // Frames that were on their way say nothing of a queue that is not followed.
  world.socket.receive({ type: "subscribed", queue: "q", position: at(2) });
  world.socket.receive({ type: "gap", stream: "queue", queue: "q", reason: "trimmed", from: 1, to: 4, position: at(4) });
  assert.equal(client.position("queue:q"), undefined);
  assert.deepEqual(client.position("queue:undefined"), undefined);
});

test("a queue that a handler leaves and follows again starts from what the edge says next", async () => {
  const { world, client } = await establish();
  client.subscribe("q");
  world.socket.receive({ type: "subscribed", queue: "q", position: at(0) });
  client.once("event", () => {
    client.unsubscribe("q");
    client.subscribe("q");
  });
  world.socket.receive(queued("q", 1));
  assert.equal(client.position("queue:q"), undefined);
  world.socket.receive({ type: "unsubscribed", queue: "q" }, { type: "subscribed", queue: "q", position: at(5) }, queued("q", 6));
  assert.equal(client.position("queue:q"), at(6));
});

test("after hundreds of queues came and went, the next one is resumed after a reconnect", async () => {
  const { world, client, seen } = await establish();
  for (let n = 0; n < 300; n += 1) {
    client.subscribe(`q${n}`);
    client.once("event", () => client.unsubscribe(`q${n}`));
    world.socket.receive({ type: "subscribed", queue: `q${n}`, position: at(0) }, queued(`q${n}`, 1), { type: "pong" });
    await world.pass(2_000);
  }
  client.subscribe("last");
  world.socket.receive({ type: "subscribed", queue: "last", position: at(0) }, queued("last", 1));
  assert.equal(client.position("queue:last"), at(1));
  world.socket.end();
  assert.equal((await reconnect(world)).positions["queue:last"], at(1));
  assert.ok(!seen.some((entry) => entry.startsWith("error")), String(seen.at(-1)));
});

test("what an earlier page followed takes no room, and is resumed if it is followed again", async () => {
  const kept = new Map([["belfry.positions", JSON.stringify([["user", at(3), 3], ...Array.from({ length: 129 }, (_, n) => [`queue:old${n}`, at(1), 1])])]]);
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const { world, client } = await establish({ storage });
  assert.equal(client.position("queue:old7"), undefined);
  client.subscribe("new");
  client.subscribe("old7");
  assert.deepEqual(world.socket.sent.slice(1), [{ type: "subscribe", queue: "new" }, { type: "subscribe", queue: "old7", position: at(1) }]);
  world.socket.receive({ type: "subscribed", queue: "new", position: at(8) });
  await world.pass(1_000);
  const saved = JSON.parse(kept.get("belfry.positions"));
  assert.equal(saved.length, 130);
  assert.deepEqual(saved.filter(([key]) => key === "queue:new" || key === "queue:old7").map(([key, position]) => [key, position]), [["queue:old7", at(1)], ["queue:new", at(8)]]);
});

test("a position without room is an error, never silence", () => {
  const positions = new Positions();
  for (let n = 0; n < 130; n += 1) assert.equal(positions.stated(`queue:q${n}`, at(1)), true);
  assert.equal(positions.commit(queued("one-more", 1)), false);
  assert.equal(positions.commit(queued("q7", 2)), true);
  assert.equal(positions.gap({ ...queued("one-more", 1), to: 1 }), false);
});

test("128 queues fit into the first frame, after a reconnect again, and there is no 129th", async () => {
  const queues = Array.from({ length: 128 }, (_, n) => `queue-${n}-${"x".repeat(100)}`);
  const { world, client } = await start({ queues });
  assert.throws(() => client.subscribe("one-more"), RangeError);
  for (let connection = 0; connection < 2; connection += 1) {
    const { socket } = world;
    assert.ok(JSON.stringify(socket.sent[0]).length < 270_336);
    assert.deepEqual(socket.sent[0].queues, queues);
    socket.receive(connected());
    assert.ok(socket.sent.length <= 81, `${socket.sent.length} messages at once`);
    for (let round = 0; round < 5; round += 1) {
      await world.pass(10_000);
      socket.receive({ type: "pong" });
    }
    const later = socket.sent.slice(1).filter((frame) => frame.type === "subscribe");
    assert.deepEqual([...socket.sent[0].queues, ...later.map((frame) => frame.queue)], queues);
    socket.end();
    await reconnect(world);
  }
});

test("a queue that is given up before it was requested is never requested", async () => {
  const { world, client } = await start();
  client.subscribe("support");
  client.unsubscribe("support");
  world.socket.receive(connected());
  assert.equal(world.socket.sent.length, 1);
});

test("a pong proves a connection: the next wait starts from the bottom", async () => {
  const { world } = await establish();
  world.socket.end();
  await reconnect(world);
  world.socket.receive(connected(), { type: "pong" });
  world.socket.end();
  await world.pass(1_000);
  assert.equal(world.sockets.length, 3);
});

test("closed while the token is on its way: no connection is opened", async () => {
  let give = () => {};
  const token = () => new Promise((resolve) => (give = () => resolve("late")));
  const { world, client } = await start({ token });
  client.close();
  give();
  await settle();
  assert.equal(world.sockets.length, 0);
  assert.equal(client.state, "disconnected");
});

test("degraded and recovered are emitted and kept", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "degraded", since: "2026-01-01T00:00:00.000Z" });
  assert.equal(client.degraded, true);
  world.socket.receive({ type: "recovered" });
  assert.equal(client.degraded, false);
  assert.deepEqual(seen, ["degraded", "recovered"]);
});

test("frames that are none end the connection, unknown ones do not", async () => {
  const { world, client, seen } = await establish();
  world.socket.receive({ type: "from_the_future", x: 1 }, { type: "unknown", id: "e", stream: "user", offset: 1, position: at(1) });
  assert.equal(client.position("user"), at(1));
  assert.deepEqual(seen, ["event 1"]);
  world.socket.onmessage({ data: "{" });
  assert.equal(client.state, "connecting");
});

test("positions outlive the page in a storage, and malformed data in it is ignored", async () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const { world, client } = await establish({ storage });
  world.socket.receive(event(1));
  await world.pass(250);
  client.close();
  const second = await start({ storage });
  assert.equal(second.world.socket.sent[0].positions.user, at(1));
  kept.set("belfry.positions", '[["user",5],["everyone","x",-1],7]');
  const third = await start({ storage });
  assert.deepEqual(third.world.socket.sent[0].positions, { everyone: "x" });
});

test("a network that takes nothing is given up instead of filling memory", async () => {
  const { world, client } = await establish();
  world.socket.bufferedAmount = 70_000;
  client.subscribe("support");
  assert.equal(client.state, "connecting");
});

test("a closed client leaves no timer behind", async () => {
  const { world, client } = await establish();
  client.close();
  assert.equal(world.timers, 0);
});

test("waits double while nothing works and start over once it does", async () => {
  const { world } = await establish();
  const waits = [];
  for (let n = 0; n < 3; n += 1) {
    world.socket.end();
    const before = world.now();
    const sockets = world.sockets.length;
    while (world.sockets.length === sockets) await world.pass(100);
    waits.push(world.now() - before);
    world.socket.open();
    world.socket.receive(connected());
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000]);
  world.socket.receive(event(1));
  world.socket.end();
  await world.pass(1_000);
  assert.equal(world.sockets.length, 5);
});
