// Receipts: what is sent for an event, once, and never before its time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Receipts } from "../../../edge/web/client/src/receipts.js";
import { DashboardWebSocketClient } from "../../../edge/web/client/src/websocket-client.js";
import { packPosition } from "../fake-edge.mjs";
import { FakeWorld, settle } from "./world.mjs";

const at = (offset) => packPosition(1, offset);
/** The id of the nth event, and `e<n>` in what was reported. */
const id = (n) => `0199a000-0000-7000-8000-${String(n).padStart(12, "0")}`;
const short = (long) => `e${Number(long.slice(-12))}`;
const event = (offset, rest = {}) => ({ type: "image_processed", id: id(offset), stream: "user", offset, position: at(offset), ...rest });
const connected = { type: "connected", session: "s", user: "u", streams: { user: { position: at(0) } } };
const sentReceipts = (socket) => socket.sent.filter((frame) => frame.type === "receipt").map((frame) => frame.receipts.map((receipt) => `${short(receipt.id)} ${receipt.state}`));

async function establish(options = {}) {
  const world = new FakeWorld();
  const client = new DashboardWebSocketClient({ url: "ws://edge/ws", token: async () => "t", heartbeatInterval: 3_600_000, world, ...options });
  client.connect();
  await settle();
  world.socket.open();
  world.socket.receive(options.connected ?? connected);
  return { world, client };
}

/** The network comes and goes; the first frame of the new connection is not answered yet. */
async function reconnect(world) {
  const before = world.sockets.length;
  while (world.sockets.length === before) await world.pass(100);
  world.socket.open();
}

function storage() {
  const kept = new Map();
  return { kept, getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
}

test("delivered is reported by itself, in one frame after 250 ms", async () => {
  const { world } = await establish();
  world.socket.receive({ type: "batch", events: [event(1), event(2)] });
  await world.pass(249);
  assert.deepEqual(sentReceipts(world.socket), []);
  await world.pass(1);
  assert.deepEqual(sentReceipts(world.socket), [["e1 delivered", "e2 delivered"]]);
});

test("delivered is reported only after the handlers ran and the position was kept, in the storage too", async () => {
  const store = storage();
  const { world, client } = await establish({ storage: store });
  const early = [];
  client.on("event", (one) => {
    if (sentReceipts(world.socket).flat().includes(`${short(one.id)} delivered`)) early.push(one.id);
  });
  world.socket.receive({ type: "batch", events: Array.from({ length: 100 }, (_, n) => event(n + 1)) });
  assert.equal(sentReceipts(world.socket)[0].length, 100);
  assert.deepEqual(early, []);
  assert.equal(JSON.parse(store.kept.get("belfry.positions"))[0][2], 100);
});

test("100 receipts fill a frame that does not wait", async () => {
  const { world } = await establish();
  world.socket.receive({ type: "batch", events: Array.from({ length: 250 }, (_, n) => event(n + 1)) });
  assert.deepEqual(sentReceipts(world.socket).map((frame) => frame.length), [100, 100]);
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket).map((frame) => frame.length), [100, 100, 50]);
});

test("ephemeral events, duplicates and what receipts are switched off for say nothing", async () => {
  const { world } = await establish();
  world.socket.receive({ type: "job_progress", id: "p", stream: "user", percent: 1 }, event(1), event(1));
  await world.pass(1_000);
  assert.deepEqual(sentReceipts(world.socket), [["e1 delivered"]]);
  const silent = await establish({ receipts: false });
  silent.world.socket.receive(event(1));
  silent.client.receipt(id(1), "read");
  await silent.world.pass(1_000);
  assert.deepEqual(sentReceipts(silent.world.socket), []);
  assert.equal(silent.world.timers, 2, "the heartbeat and its watchdog");
});

test("a duplicate says nothing, even on a page that does not remember its receipt", async () => {
  const store = storage();
  const first = await establish({ storage: store });
  first.world.socket.receive(event(1));
  await first.world.pass(250);
  first.client.close();
  store.kept.delete("belfry.positions.receipts");
  const second = await establish({ storage: store, connected: { ...connected, streams: { user: { position: at(1) } } } });
  second.world.socket.receive(event(1), event(2));
  await second.world.pass(250);
  assert.deepEqual(sentReceipts(second.world.socket), [["e2 delivered"]]);
});

test("of each event the highest state is reported, and each state once", async () => {
  const { world, client } = await establish();
  world.socket.receive(event(1));
  client.receipt(id(1), "displayed");
  client.receipt(id(1), "displayed");
  await world.pass(250);
  client.receipt(id(1), "read");
  client.receipt(id(1), "dismissed");
  client.receipt(id(1), "delivered");
  await world.pass(1_000);
  assert.deepEqual(sentReceipts(world.socket), [["e1 displayed"], ["e1 read"]]);
});

test("a state or an id that is none is refused", async () => {
  const { client } = await establish();
  assert.throws(() => client.receipt(id(1), "seen"), /unknown receipt state `seen`/);
  assert.throws(() => client.receipt("", "read"), RangeError);
  assert.throws(() => client.receipt("x".repeat(65), "read"), RangeError);
  assert.throws(() => client.receipt(`${id(1)}0`, "read"), RangeError);
});

test("what was not sent is kept over a reconnect and never sent before connected", async () => {
  const { world, client } = await establish();
  world.socket.end();
  client.receipt(id(1), "read");
  await reconnect(world);
  await world.pass(1_000);
  assert.deepEqual(sentReceipts(world.socket), []);
  world.socket.receive(connected);
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket), [["e1 read"]]);
});

test("what went out without a sign of life after it is sent again", async () => {
  const { world, client } = await establish({ heartbeatInterval: 1_000 });
  client.receipt(id(1), "displayed");
  await world.pass(500);
  await world.pass(500);
  assert.deepEqual(world.socket.sent.at(-1), { type: "ping" });
  client.receipt(id(2), "displayed");
  world.socket.receive({ type: "pong" });
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket), [["e1 displayed"], ["e2 displayed"]]);
  client.receipt(id(2), "read");
  await world.pass(250);
  world.socket.end();
  await reconnect(world);
  world.socket.receive(connected);
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket), [["e2 read"]], "e1 was proven, e2 was not");
});

test("closing sends what waits, and a page that comes after takes over what could not go", async () => {
  const store = storage();
  const first = await establish({ storage: store });
  first.client.receipt(id(1), "read");
  first.client.close();
  assert.deepEqual(sentReceipts(first.world.socket), [["e1 read"]]);
  const second = await establish({ storage: store });
  second.world.socket.end();
  second.client.receipt(id(2), "dismissed");
  second.client.close();
  store.kept.set("x", "y");
  const third = await establish({ storage: store });
  await third.world.pass(250);
  assert.deepEqual(sentReceipts(third.world.socket), [["e1 read", "e2 dismissed"]]);
  store.kept.set("belfry.positions.receipts", JSON.stringify([[id(9), 17], [id(8), "length"], ["", 1], 7, [id(7), 1], ["e6", 1]]));
  const fourth = await establish({ storage: store });
  await fourth.world.pass(250);
  assert.deepEqual(sentReceipts(fourth.world.socket), [["e7 displayed"]]);
});

test("a network that is behind is not given more, and the connection lives", async () => {
  const { world, client } = await establish();
  world.socket.bufferedAmount = 20_000;
  world.socket.receive({ type: "batch", events: Array.from({ length: 150 }, (_, n) => event(n + 1)) });
  await world.pass(1_000);
  assert.deepEqual(sentReceipts(world.socket), []);
  assert.equal(client.state, "connected");
  world.socket.bufferedAmount = 0;
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket).map((frame) => frame.length), [100, 50]);
});

test("an edge that has enough is sent again after the pause it requested", async () => {
  const { world, client } = await establish();
  client.receipt(id(1), "read");
  await world.pass(250);
  world.socket.receive({ type: "error", code: "rate_limited", message: "", retryAfterMs: 5_000 });
  for (let n = 2; n <= 150; n += 1) client.receipt(id(n), "displayed");
  await world.pass(4_999);
  assert.deepEqual(sentReceipts(world.socket), [["e1 read"]]);
  await world.pass(1);
  const frames = sentReceipts(world.socket).slice(1);
  assert.deepEqual(frames.map((frame) => frame.length), [100, 50]);
  assert.equal(frames[0][0], "e1 read");
});

test("an edge of before receipts is sent one report and left alone until the next connection", async () => {
  const { world, client } = await establish();
  world.socket.receive(event(1));
  await world.pass(250);
  world.socket.receive({ type: "error", code: "bad_request", field: "type", message: "" });
  world.socket.receive(event(2));
  client.receipt(id(2), "read");
  await world.pass(10_000);
  assert.equal(sentReceipts(world.socket).length, 1);
  world.socket.end();
  await reconnect(world);
  world.socket.receive(connected);
  await world.pass(250);
  assert.deepEqual(sentReceipts(world.socket), [["e1 delivered", "e2 read"].toSorted()]);
});

test("1,000 events are remembered, the newest, and what gave way unsent is counted", () => {
  const receipts = new Receipts();
  for (let n = 0; n < 1_200; n += 1) receipts.report(id(n), "delivered");
  assert.equal(receipts.waiting, 1_000);
  assert.equal(receipts.dropped, 200);
  assert.equal(short(receipts.take()[0].id), "e200");
  assert.equal(receipts.report(id(1_199), "delivered"), false);
  assert.equal(receipts.report(id(0), "delivered"), true, "forgotten, so it is sent again");
});

test("a retract is emitted and answered with nothing", async () => {
  const { world, client } = await establish();
  const seen = [];
  client.on("retract", (frame) => seen.push(`${short(frame.id)} ${frame.reason}`));
  world.socket.receive({ type: "retract", id: id(1), reason: "read" });
  await world.pass(1_000);
  assert.deepEqual(seen, ["e1 read"]);
  assert.deepEqual(sentReceipts(world.socket), []);
});
