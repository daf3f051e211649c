// Rows of the page's contract for Firefox and WebKit: the client's interface, and what
// the page goes through.

import assert from "node:assert/strict";
import { EVENTS, WRONG_NAMES } from "./contract-events.mjs";
import { live, seen, toasts } from "./other-browsers-world.mjs";
import { until } from "./page.mjs";

const ids = (/** @type {number} */ count) => Array.from({ length: count }, (_, n) => `d${n}`);

/** @param {import("./other-browsers-world.mjs").World} world */
export function clientRows(world) {
  const { check } = world;

  check("`on` takes each event type, and `*` all of them; the event has its fields", async () => {
    const { tab, connect, connected } = await world.bare();
    await connect();
    await tab.evaluate((types) => {
      window.got = {};
      window.all = [];
      for (const type of types) window.client.on(type, (event) => (window.got[type] = event));
      window.client.on("*", ({ type }) => window.all.push(type));
    }, EVENTS.map(([type]) => type));
    await connected();
    for (const [type, fields, more] of EVENTS) {
      await world.edge.publish(type, fields);
      const event = await until(() => tab.evaluate((name) => window.got[name] ?? null, type), type);
      for (const [name, value] of Object.entries({ ...fields, ...more })) assert.deepEqual(event[name], value, `${type}.${name}`);
    }
    assert.deepEqual(await tab.evaluate(() => window.all), EVENTS.map(([type]) => type));
  });

  check("`connected`, `disconnected`, `error`, `gap` and `state` come when they should", async () => {
    const { tab, connect, connected } = await world.bare();
    await connect();
    await connected();
    await tab.evaluate(() => void window.client.subscribe(""));
    await until(() => tab.evaluate(() => window.log.includes("error")), "an error");
    world.edge.cut();
    await until(() => tab.evaluate(() => window.log.filter((name) => name === "connected").length === 2), "connected again");
    const names = await tab.evaluate(() => window.log);
    for (const name of ["connected", "disconnected", "error", "state"]) assert.ok(names.includes(name), `${name} in ${names}`);
    await tab.evaluate(() => window.client.close());
    // A position of another log: epoch 1, offset 9.
    await tab.evaluate((url, token) => {
      const position = btoa(String.fromCharCode(0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7)).replaceAll("=", "");
      window.client = new window.DashboardWebSocketClient({ url, token, storage: { getItem: (key) => (key === "belfry.positions" ? JSON.stringify([["user", position, 1]]) : null), setItem: () => {} } });
      window.client.on("gap", ({ reason }) => (window.gap = reason));
      window.client.connect();
    }, world.edge.wsUrl, world.edge.sign(world.edge.user));
    assert.equal(await until(() => tab.evaluate(() => window.gap ?? null), "a gap"), "epoch_changed");
  });

  check("an unknown name throws at once, with the nearest right one", async () => {
    const { tab, connect } = await world.bare();
    await connect();
    for (const [wrong, right] of WRONG_NAMES) {
      const message = await tab.evaluate((name) => {
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

  check("states are disconnected, connecting, connected, and disconnected again; pings come as `heartbeatInterval` says", async () => {
    const { tab, connect, connected } = await world.bare();
    await tab.evaluate(() => {
      window.pings = [];
      const { send } = WebSocket.prototype;
      WebSocket.prototype.send = function (data) {
        if (data === '{"type":"ping"}') window.pings.push(data);
        return send.call(this, data);
      };
    });
    await connect({ heartbeatInterval: 100 });
    await connected();
    // At the default of 30 s six would take longer than the wait.
    await until(() => tab.evaluate(() => window.pings.length >= 6), "six pings");
    await tab.evaluate(() => window.client.close());
    assert.deepEqual(await tab.evaluate(() => window.states), ["disconnected", "connecting", "connected", "disconnected"]);
  });

  check("constants and classes are global, and what `toasts: true` shows comes by itself", async () => {
    const { tab, connect, connected } = await world.bare();
    const names = await tab.evaluate(() => ({ types: Object.values(window.WS_MESSAGE_TYPES), document: Object.values(window.DOCUMENT_STATUS), pdf: Object.values(window.PDF_STATUS), kinds: ["DashboardWebSocketClient", "ToastNotificationSystem", "showToast"].map((name) => typeof window[name]) }));
    for (const [type] of EVENTS) assert.ok(names.types.includes(type), type);
    for (const status of ["pending", "completed", "failed"]) assert.ok(names.document.includes(status) && names.pdf.includes(status), status);
    assert.deepEqual(names.kinds, ["function", "function", "function"]);
    await connect({ toasts: true });
    await connected();
    await world.publish(1);
    await until(async () => (await toasts(tab)).includes("success: Passport picture is ready: It is ready to view."), "a toast");
  });

  check("a reload in a burst of 200 events shows each once, and a cut connection comes back", async () => {
    const tab = await world.plain();
    await world.burst(0, 100);
    const reloaded = tab.reload();
    await world.burst(100, 200);
    await reloaded;
    await until(async () => (await seen(tab)).at(-1) === "d199", "the last one");
    world.edge.cut();
    await world.publish(200);
    await until(async () => (await seen(tab)).at(-1) === "d200", "one after the cut");
    assert.deepEqual(await seen(tab), ids(201));
  });

  check("an edge that is killed and started again on its port is found, and nothing is lost", async () => {
    const tab = await world.plain();
    await world.burst(0, 3);
    await until(async () => (await seen(tab)).length === 3, "three events");
    await world.edge.kill();
    await live(tab, "connecting");
    await world.edge.startAgain();
    await world.burst(3, 6);
    await until(async () => (await seen(tab)).at(-1) === "d5", "the last event");
    assert.deepEqual(await seen(tab), ids(6));
    await live(tab);
  });

  check("the network's end is noticed by a ping at once, and what was missed arrives once with the network", async () => {
    const counter = `<script>
      window.pongs = 0;
      window.WebSocket = class extends WebSocket {
        constructor(...all) {
          super(...all);
          this.addEventListener("message", ({ data }) => (window.pongs += Number(data === '{"type":"pong"}')));
        }
      };
    </script>`;
    const tab = await world.open(world.page("/", counter));
    await until(() => tab.evaluate(() => window.pongs > 0), "an edge that has answered a ping");
    world.edge.network.stall(true);
    // The drivers cannot take a browser off the network: the event is dispatched here.
    await tab.evaluate(() => void dispatchEvent(new Event("offline")));
    await live(tab, "connecting");
    await world.burst(0, 3);
    world.edge.cut();
    world.edge.network.stall(false);
    await until(async () => (await seen(tab)).at(-1) === "d2", "the last event");
    assert.deepEqual(await seen(tab), ids(3));
    await live(tab);
  });

  check("a token is refreshed before it ends, on the same connection; one that expired is replaced", async () => {
    world.lastsMs = 6_000;
    const tab = await world.plain();
    const { upgrades } = world.edge.network;
    await tab.evaluate(() => void window.getDashboardWebSocket().on("refreshed", () => (window.refreshed = true)));
    await until(() => tab.evaluate(() => window.refreshed ?? false), "a refresh");
    assert.equal(world.edge.network.upgrades, upgrades);
    await tab.goto("about:blank");
    world.lastsMs = -3_500; // Within the edge's leeway of 4.5 s for a second.
    const before = world.site.tokens.length;
    await world.open(world.page("/"), { waits: false });
    await until(() => world.site.tokens.length > before, "a first token");
    world.lastsMs = 3_600_000;
    await until(() => world.site.tokens.length > before + 1, "another token");
    await live(tab);
  });

  check("a page that one comes back to is live, with what was missed", async (t) => {
    const tab = await world.open(world.page("/", `<script>addEventListener("pageshow", (event) => (window.persisted = event.persisted));</script>`));
    await tab.goto(world.site.page("/away", "elsewhere"));
    await until(() => world.edge.sessions === 0, "no session");
    await world.publish(1);
    await tab.back();
    await until(async () => (await tab.evaluate(() => window.seen?.at(-1) ?? "").catch(() => "")) === "d1", "what was missed");
    t.diagnostic(`from the back/forward cache: ${await tab.evaluate(() => window.persisted)}`);
    assert.deepEqual(await seen(tab), ["d1"]);
  });

  check("a strict CSP lets it work, and reports nothing", async () => {
    const { url, wsUrl } = world.edge;
    const csp = `default-src 'none'; script-src ${url}js/ 'nonce-n1'; connect-src 'self' ${wsUrl.replace(/\/ws$/, "")} ${wsUrl} ${url}; img-src data:`;
    const tab = await world.open(world.page("/", "", { tag: 'nonce="n1"', headers: { "Content-Security-Policy": csp } }));
    await world.publish(1);
    await until(async () => (await toasts(tab)).length === 1, "a toast");
    assert.notEqual(await tab.evaluate(() => getComputedStyle(document.querySelector("belfry-toasts").shadowRoot.querySelector(".toast")).boxShadow), "none");
    assert.deepEqual(await tab.evaluate(() => window.violations), []);
  });
}
