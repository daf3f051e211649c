// Links in events behind a proxy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { completeLinks } from "../../../edge/web/client/src/event-links.js";

/** Address of the WebSocket, the link as it was published, and as the page gets it. */
const CASES = [
  ["wss://app.example/live/ws", "http://127.0.0.1:8081/files/a?s=1", "https://app.example/live/processors/files/a?s=1"],
  ["ws://app.example/ws?x=1", "http://localhost:8081/files/a", "http://app.example/processors/files/a"],
  ["wss://app.example/ws", "http://[::1]:8081/files/a", "https://app.example/processors/files/a"],
  ["wss://localhost:8443/ws", "http://127.0.0.1:8081/files/a", "https://localhost:8443/processors/files/a"],
  ["ws://127.0.0.1:8080/ws", "http://127.0.0.1:8081/files/a", "http://127.0.0.1:8081/files/a"],
  ["wss://app.example/ws", "https://cdn.example/a.jpg", "https://cdn.example/a.jpg"],
  ["wss://app.example/ws", "http://10.0.0.7:8081/files/a", "http://10.0.0.7:8081/files/a"],
  ["wss://app.example/ws", "javascript:1", "javascript:1"],
  ["wss://app.example/ws", "no link", "no link"],
];

test("a link to the machine behind the proxy lies beside the WebSocket, any other is left as it is", () => {
  for (const [ws, link, wanted] of CASES) {
    const event = { signedUrl: link, thumbnailUrl: link, text: link };
    completeLinks(event, ws);
    assert.deepEqual(event, { signedUrl: wanted, thumbnailUrl: wanted, text: link }, `${link} at ${ws}`);
  }
  const none = { signedUrl: 7 };
  completeLinks(none, "wss://app.example/ws");
  assert.deepEqual(none, { signedUrl: 7 });
});
