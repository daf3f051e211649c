// Why a WebSocket does not open: browsers hide it, the edge says it.
//
// Promise: a sentence only if the edge itself says that it does not let this page's
// origin in; no answer, no page and no `fetch` are no reason.

/** Finds out for one client whether its edge lets the page in. */
export class OriginCheck {
  /** The console shows it. */
  #shown = false;

  /**
   * @param {string} url of the WebSocket
   * @param {(error: Record<string, string>) => void} report receives the `error` frame
   */
  async run(url, report) {
    try {
      const { origin } = location;
      const at = new URL(url.replace(/^ws/, "http"));
      at.pathname += "/origin";
      at.search = origin;
      const { allowed } = await (await fetch(at)).json();
      if (allowed !== false) return;
      const message = `the edge does not let pages of ${origin} in: start it with \`--origins ${origin}\``;
      if (!this.#shown) console.warn(`Belfry: ${message}`);
      this.#shown = true;
      report({ type: "error", code: "origin_refused", message });
    } catch {
      // No page, or an edge that is away or too old to know.
    }
  }
}
