// Why a WebSocket does not open: browsers hide it, the edge says it.
//
// Promise: a sentence only if the edge itself says that it does not let this page's
// origin in; no answer, no page and no `fetch` are no reason.

/**
 * @param {string} url of the WebSocket
 * @returns {Promise<string | undefined>} for people, with the setting to change
 */
export async function originRefusal(url) {
  try {
    const { origin } = location;
    const at = new URL(url.replace(/^ws/, "http"));
    at.pathname += "/origin";
    at.search = origin;
    const { allowed } = await (await fetch(at)).json();
    if (allowed === false) return `the edge does not let pages of ${origin} in: start it with \`--origins ${origin}\``;
  } catch {
    // No page, or an edge that is away or too old to know.
  }
}
