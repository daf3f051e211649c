import assert from "node:assert/strict";
import { test } from "node:test";
import { rowsOf } from "../../../edge/web/dashboard-workshop.js";

test("rows of a report: a line each, its parts between bars, none of them needed", () => {
  assert.deepEqual(rowsOf("12:00 | It begins | me\n\n  It ends  \n13:00 | a | b | c\n"), [
    { time: "12:00", what: "It begins", who: "me" },
    { time: "", what: "It ends", who: "" },
    { time: "13:00", what: "a", who: "b | c" },
  ]);
  assert.deepEqual(rowsOf(" \n"), []);
});
