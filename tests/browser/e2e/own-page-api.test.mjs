// The client's interface against the real binary: names, states, constants, heartbeat,
// toasts, and every event type with its fields. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EVENTS, WRONG_NAMES } from "./contract-events.mjs";
import { picture } from "./own-page.mjs";
import { ownPageWorld } from "./own-page-world.mjs";
import { until } from "./page.mjs";
import { RealEdge } from "./real-edge.mjs";

const world = ownPageWorld();

/** A page with the first two scripts alone: it makes its client itself. */
async function bare() {
  const [toasts, client] = ["toast-notifications", "websocket-client"].map((name) => `<script src="${world.edge.url}js/${name}.js"></script>`);
  return world.open(world.site.page("/bare", `${toasts}${client}`), { waits: false });
}

/** Makes `window.client`, which notes its states and what it emits from the start. */
const connect = (page, options = {}) =>
  page.evaluate(([url, token, more]) => {
    Object.assign(window, { states: [], log: [] });
    window.client = new DashboardWebSocketClient({ url, token, ...more });
    for (const name of ["connected", "disconnected", "error", "gap", "state"]) window.client.on(name, () => window.log.push(name));
    window.client.on("state", ({ state }) => window.states.push(state));
    window.states.push(window.client.state);
    window.client.connect();
  }, [world.edge.wsUrl, world.edge.sign(world.edge.user), options]);
const connected = (page) => until(() => page.evaluate(() => window.client.state === "connected"), "connected");

test("`on` takes each event type, and `*` all of them; the event has its fields", async () => {
  const page = await bare();
  await connect(page);
  await page.evaluate((types) => {
    window.got = {};
    window.all = [];
    for (const type of types) window.client.on(type, (event) => (window.got[type] = event));
    window.client.on("*", ({ type }) => window.all.push(type));
  }, EVENTS.map(([type]) => type));
  await connected(page);
  for (const [type, fields, more] of EVENTS) {
    await world.edge.publish(type, fields);
    const event = await until(() => page.evaluate((name) => window.got[name], type), type);
    for (const [name, value] of Object.entries({ ...fields, ...more })) assert.deepEqual(event[name], value, `${type}.${name}`);
  }
  assert.deepEqual(await page.evaluate(() => window.all), EVENTS.map(([type]) => type));
});

test("`connected`, `disconnected`, `error`, `gap` and `state` come when they should", async () => {
  const other = await RealEdge.start([world.site.origin]);
  const page = await bare();
  await connect(page);
  await connected(page);
  await world.edge.publish("image_processed", picture(1));
  await page.evaluate(() => window.client.subscribe(""));
  await until(() => page.evaluate(() => window.log.includes("error")), "an error");
  world.edge.cut();
  await until(() => page.evaluate(() => window.log.filter((name) => name === "connected").length === 2), "connected again");
  const names = await page.evaluate(() => window.log);
  for (const name of ["connected", "disconnected", "error", "state"]) assert.ok(names.includes(name), `${name} in ${names}`);
  await page.evaluate(() => window.client.close());
  // A position of another log: what was in between is gone for good.
  const [url, token] = [other.wsUrl, other.sign(world.edge.user)];
  await page.evaluate(([at, sub, position]) => {
    window.client = new DashboardWebSocketClient({ url: at, token: sub, storage: { getItem: (key) => (key === "belfry.positions" ? JSON.stringify([["user", position, 1]]) : null), setItem: () => {} } });
    window.client.on("gap", ({ reason }) => (window.gap = reason));
    window.client.connect();
  }, [url, token, await page.evaluate(() => window.client.position("user"))]);
  assert.equal(await until(() => page.evaluate(() => window.gap), "a gap"), "epoch_changed");
  await page.evaluate(() => window.client.close());
  await other.stop();
});

test("an unknown name throws at once, with the nearest right one", async () => {
  const page = await bare();
  await connect(page);
  for (const [wrong, right] of WRONG_NAMES) {
    const message = await page.evaluate((name) => {
      try {
        window.client.on(name, () => {});
        return "accepted";
      } catch (cause) {
        return `${cause.name}: ${cause.message}`;
      }
    }, wrong);
    assert.match(message, new RegExp(`^TypeError: .*\`${wrong}\`.*did you mean \`${right}\``));
  }
});

test("states are disconnected, connecting, connected, and disconnected again", async () => {
  const page = await bare();
  await connect(page);
  await connected(page);
  await page.evaluate(() => window.client.close());
  assert.deepEqual(await page.evaluate(() => window.states), ["disconnected", "connecting", "connected", "disconnected"]);
});

test("a ping every 30 s by default, or as often as `heartbeatInterval` says", async () => {
  const page = await bare();
  const pings = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => payload === '{"type":"ping"}' && pings.push(payload)));
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 60_000);
  await connect(page);
  await connected(page);
  await page.clock.runFor(1_000);
  await until(() => pings.length === 1, "the first ping");
  await page.clock.runFor(29_900);
  assert.equal(pings.length, 1);
  await page.clock.runFor(200);
  await until(() => pings.length === 2, "the second ping");
  await page.evaluate(() => window.client.close());
  await connect(page, { heartbeatInterval: 200 });
  await connected(page);
  await page.clock.runFor(1_000);
  await until(() => pings.length === 7, "five pings in a second");
});

test("constants and classes are global, and what `toasts: true` shows comes by itself", async () => {
  const page = await bare();
  const names = await page.evaluate(() => ({ types: Object.values(WS_MESSAGE_TYPES), document: Object.values(DOCUMENT_STATUS), pdf: Object.values(PDF_STATUS), kinds: [typeof DashboardWebSocketClient, typeof ToastNotificationSystem, typeof showToast] }));
  for (const [type] of EVENTS) assert.ok(names.types.includes(type), type);
  for (const status of ["pending", "completed", "failed"]) assert.ok(names.document.includes(status) && names.pdf.includes(status), status);
  assert.deepEqual(names.kinds, ["function", "function", "function"]);
  await connect(page, { toasts: true });
  await connected(page);
  await world.edge.publish("image_processed", picture(1));
  await page.locator('.toast[data-kind="success"]', { hasText: "Passport picture is ready" }).waitFor();
});

test("a worker has the same client: no global of a page is taken for granted", async () => {
  const page = await bare();
  await page.evaluate(([module, url, token]) => {
    const program = `import { DashboardWebSocketClient } from ${JSON.stringify(module)};
      const client = new DashboardWebSocketClient({ url: ${JSON.stringify(url)}, token: async () => ${JSON.stringify(token)} });
      for (const name of ["connected", "image_processed"]) client.on(name, ({ type, documentId }) => postMessage([type, documentId]));
      client.connect();`;
    window.posted = [];
    window.worker = new Worker(URL.createObjectURL(new Blob([program], { type: "text/javascript" })), { type: "module" });
    window.worker.onmessage = ({ data }) => window.posted.push(data.join(" "));
    window.worker.onerror = ({ message }) => window.posted.push(message);
  }, [`${world.edge.url}js/belfry-client.mjs`, world.edge.wsUrl, world.edge.sign(world.edge.user)]);
  await until(() => page.evaluate(() => window.posted.length >= 1), "the worker is connected");
  await world.edge.publish("image_processed", picture(1));
  await until(() => page.evaluate(() => window.posted.length >= 2), "the event");
  assert.deepEqual(await page.evaluate(() => window.posted), ["connected ", "image_processed d1"]);
});
