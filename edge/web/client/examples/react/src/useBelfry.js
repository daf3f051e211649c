// A hook that keeps a component live: one client for each mounted component tree.

import { useEffect, useState } from "react";
import { DashboardWebSocketClient } from "belfry-client";

/**
 * @param {{url: string, token: (cause: string) => Promise<string>, user: string}} options `token` must not change from one render to the next
 * @param {(event: import("belfry-client").BelfryEvent) => void} onEvent the same
 */
export function useBelfry({ url, token, user }, onEvent) {
  const [state, setState] = useState("connecting");
  useEffect(() => {
    const client = new DashboardWebSocketClient({
      url,
      token,
      toasts: true,
      share: `${url} ${user}`,
      storage: sessionStorage,
      storageKey: `belfry.positions ${user}`,
    });
    client.on("state", (detail) => setState(detail.state));
    client.on("*", onEvent);
    client.connect();
    // StrictMode mounts twice: the second client goes on where this one was.
    return () => client.close();
  }, [url, token, user, onEvent]);
  return state;
}
