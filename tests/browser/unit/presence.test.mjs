// Who is there: requested when it can be granted, emitted in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Presence } from "../../../edge/web/client/src/presence.js";
import { DashboardWebSocketClient } from "../../../edge/web/client/src/websocket-client.js";
import { packPosition } from "../fake-edge.mjs";
import { FakeWorld, settle } from "./world.mjs";

const at = packPosition(1, 0);
const connected = (...queues) => ({ type: "connected", session: "s", user: "u", streams: Object.fromEntries(["user", ...queues.map((queue) => `queue:${queue}`)].map((key) => [key, { position: at }])) });
const member = (user, online, generation) => ({ user, online, generation });
const snapshot = (queue, ...users) => ({ type: "presence", queue, snapshot: true, total: users.length, users });
const change = (queue, ...users) => ({ type: "presence", queue, users });
const requested = (socket) => socket.sent.slice(1).map(({ type, queue, watch }) => [type, queue, watch].filter((part) => part !== undefined).join(" "));

async function start(options = {}) {
  const world = new FakeWorld();
  const client = new DashboardWebSocketClient({ url: "ws://edge/ws", token: async () => "t", world, ...options });
  const seen = [];
  client.on("presence", ({ queue, snapshot: whole, total, users }) => {
    seen.push(`${queue}${whole ? " all" : ""} ${total}: ${users.map(({ user, online }) => `${online ? "+" : "-"}${user}`).join(" ")}`);
  });
  client.connect();
  await settle();
  world.socket.open();
  return { world, client, seen };
}

test("a watch goes out when the queue is followed, not before", async () => {
  const { world, client } = await start();
  client.watchPresence("support");
  world.socket.receive(connected());
  assert.deepEqual(requested(world.socket), []);
  client.subscribe("support");
  assert.deepEqual(requested(world.socket), ["subscribe support"]);
  world.socket.receive({ type: "subscribed", queue: "support", position: at });
  client.watchPresence("support");
  assert.deepEqual(requested(world.socket), ["subscribe support", "presence support true"]);
});

test("it is requested again after a reconnect, and after following again", async () => {
  const { world, client } = await start({ queues: ["support"] });
  client.watchPresence("support");
  world.socket.receive(connected("support"));
  assert.deepEqual(requested(world.socket), ["presence support true"]);
  world.socket.end();
  while (world.sockets.length === 1) await world.pass(100);
  world.socket.open();
  world.socket.receive(connected("support"));
  assert.deepEqual(requested(world.socket), ["presence support true"]);
  client.unsubscribe("support");
  client.subscribe("support");
  world.socket.receive({ type: "unsubscribed", queue: "support" }, { type: "subscribed", queue: "support", position: at });
  assert.deepEqual(requested(world.socket), ["presence support true", "unsubscribe support", "subscribe support", "presence support true"]);
});

test("it is requested again when a refresh brings the right to the queue back, and not before", async () => {
  const { world, client, seen } = await start({ queues: ["support"] });
  client.watchPresence("support");
  world.socket.receive(connected("support"), snapshot("support", member("u1", true, 1)));
  world.socket.receive({ type: "refreshed" }, { type: "unsubscribed", queue: "support" });
  assert.deepEqual(requested(world.socket), ["presence support true"]);
  world.socket.receive({ type: "refreshed" });
  assert.deepEqual(requested(world.socket).slice(1), ["subscribe support"]);
  world.socket.receive({ type: "subscribed", queue: "support", position: at }, snapshot("support", member("u2", true, 1)));
  assert.deepEqual(requested(world.socket).slice(1), ["subscribe support", "presence support true"]);
  assert.deepEqual(seen, ["support all 1: +u1", "support all 1: +u2"]);
});

test("a watch that its own handler gives up stays given up, whatever answer is on its way", async () => {
  const { world, client, seen } = await start({ queues: ["support"] });
  client.watchPresence("support");
  client.on("presence", () => client.unwatchPresence("support"));
  world.socket.receive(connected("support"), snapshot("support", member("u1", true, 1)), change("support", member("u2", true, 1)));
  assert.deepEqual(requested(world.socket), ["presence support true", "presence support false"]);
  assert.deepEqual(seen, ["support all 1: +u1"]);
  assert.equal(client.presence("support"), undefined);
});

test("giving up is requested once, and late changes of it are dropped", async () => {
  const { world, client, seen } = await start({ queues: ["support"] });
  client.watchPresence("support");
  world.socket.receive(connected("support"), snapshot("support", member("u1", true, 1)));
  client.unwatchPresence("support");
  client.unwatchPresence("support");
  world.socket.receive(change("support", member("u2", true, 2)));
  assert.deepEqual(requested(world.socket), ["presence support true", "presence support false"]);
  assert.deepEqual(seen, ["support all 1: +u1"]);
  assert.equal(client.presence("support"), undefined);
});

test("a watch that was given up while away is not requested, nor given up again", async () => {
  const { world, client } = await start({ queues: ["support"] });
  client.watchPresence("support");
  world.socket.receive(connected("support"));
  world.socket.end();
  client.unwatchPresence("support");
  while (world.sockets.length === 1) await world.pass(100);
  world.socket.open();
  world.socket.receive({ ...connected(), streams: {} });
  assert.deepEqual(requested(world.socket), []);
});

test("a snapshot and then changes; what is older than what is known is ignored", async () => {
  const { world, client, seen } = await start({ queues: ["support"] });
  client.watchPresence("support");
  world.socket.receive(connected("support"), snapshot("support", member("u1", true, 7)));
  world.socket.receive(change("support", member("u2", true, 8), member("u1", false, 6)));
  world.socket.receive(change("support", member("u1", false, 9)), change("support", member("u1", true, 8)));
  assert.deepEqual(seen, ["support all 1: +u1", "support 2: +u2", "support 1: -u1"]);
  assert.deepEqual(client.presence("support"), { total: 1, users: ["u2"] });
  // Another run of the notifier counts from the bottom: its snapshot is the truth.
  world.socket.receive(snapshot("support", member("u1", true, 1)));
  assert.deepEqual(client.presence("support"), { total: 1, users: ["u1"] });
});

test("an edge of before presence is sent one request and no more", async () => {
  const { world, client } = await start({ queues: ["a", "b"] });
  client.watchPresence("a");
  world.socket.receive(connected("a", "b"));
  world.socket.receive({ type: "error", code: "bad_request", field: "type", message: "" });
  client.watchPresence("b");
  assert.deepEqual(requested(world.socket), ["presence a true"]);
});

test("in a large queue the rest is counted, and 1,000 are known by name", () => {
  const presence = new Presence();
  const users = Array.from({ length: 1_000 }, (_, n) => member(`u${n}`, true, n + 1));
  presence.apply({ snapshot: true, total: 5_000, users });
  assert.equal(presence.view().users.length, 1_000);
  presence.apply({ users: [member("stranger", false, 2_000)] });
  assert.equal(presence.view().total, 4_999);
  presence.apply({ users: [member("newcomer", true, 2_001)] });
  assert.deepEqual([presence.view().total, presence.view().users.length], [5_000, 1_000]);
  presence.apply({ users: [member("u0", false, 2_002), member("late", true, 2_003)] });
  assert.deepEqual([presence.view().total, presence.view().users.includes("late")], [5_000, true]);
});

test("malformed data in a frame is left out", () => {
  const presence = new Presence();
  assert.deepEqual(presence.apply({ snapshot: true, total: "many", users: [7, null, { user: "a" }, member("b", true, 1.5), member("c", true, 1)] }), [member("c", true, 1)]);
  assert.deepEqual(presence.view(), { total: 1, users: ["c"] });
  assert.deepEqual(presence.apply({ users: "none" }), []);
});
