// The shared vectors (tests/vectors/), run against the browser's modules.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Backoff } from "../../../edge/web/client/src/backoff.js";
import { isJobId, Jobs } from "../../../edge/web/client/src/jobs.js";
import { Positions, streamKey } from "../../../edge/web/client/src/positions.js";
import { Presence } from "../../../edge/web/client/src/presence.js";
import { Receipts } from "../../../edge/web/client/src/receipts.js";

const load = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), "utf8"));

function take(positions, frame) {
  switch (frame.type) {
    case "connected":
      for (const [key, { position }] of Object.entries(frame.streams)) positions.stated(key, position);
      return "moved";
    case "subscribed":
      positions.stated(`queue:${frame.queue}`, frame.position);
      return "moved";
    case "gap":
      positions.gap(frame);
      return "moved";
    default: {
      const verdict = positions.check(frame);
      if (verdict === "deliver") positions.commit(frame);
      return verdict;
    }
  }
}

for (const vector of load("positions")) {
  test(`positions: ${vector.name}`, () => {
    const positions = new Positions();
    vector.steps.forEach((step, at) => {
      const verdict = take(positions, step.in);
      assert.deepEqual({ verdict, positions: positions.toSend() }, step.out, `step ${at}, ${step.in.type} of ${streamKey(step.in)}`);
    });
  });
}

test("names: every job id of the contract is one for the client", () => {
  for (const { name, user } of load("names")) assert.ok(isJobId(name) || !user, JSON.stringify(name));
});

for (const vector of load("backoff")) {
  test(`backoff: ${vector.name}`, () => {
    const backoff = new Backoff();
    vector.steps.forEach((step, at) => {
      const out = step.in.type === "works" ? backoff.succeeded() ?? {} : { waitMs: backoff.next(step.in.random, step.in.retryAfterMs) };
      assert.deepEqual(out, step.out, `step ${at}`);
    });
  });
}

/** Runs a vector's steps on one fresh machine. */
function run(name, make, step) {
  for (const vector of load(name)) {
    test(`${name}: ${vector.name}`, () => {
      const machine = make();
      vector.steps.forEach((one, at) => assert.deepEqual(step(machine, one.in), one.out, `step ${at}`));
    });
  }
}

run("receipts", () => new Receipts(), (receipts, { do: what, id, state }) => {
  if (what === "report") return { changed: receipts.report(id, state) };
  if (what === "send") return { receipts: receipts.take() };
  if (what === "ping") receipts.pingSent();
  else if (what === "pong") receipts.pongReceived();
  else receipts.lost();
  return {};
});

run("presence", () => new Presence(), (presence, frame) => {
  const changed = presence.apply(frame).map(({ user }) => user);
  return { changed, ...presence.view() };
});

run("jobs", () => new Jobs(), (jobs, event) => {
  const changed = jobs.take(event);
  const phase = jobs.get(event.jobId)?.phase;
  return { changed, ...(phase && { phase }) };
});
