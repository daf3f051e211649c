// The address at which the client stood before it became a package of its own: see client/.

export * from "./client/src/websocket-client.js";
