// The page's elements by what they are for.
//
// Promise: one that is missing is named, at once.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id) ?? fail(`the page has no #${id}`);

/** @param {string} message @returns {never} */
function fail(message) {
  throw new Error(message);
}

/** @returns {import("./dashboard-row.js").ListElements} */
export function documentElements() {
  return { list: byId("documents"), empty: byId("documents-empty"), count: byId("documents-count"), template: byId("document-row") };
}

/** @returns {import("./dashboard-feed.js").Elements} */
export function feedElements() {
  const elements = { panel: byId("activity"), title: byId("feed-title"), list: byId("feed"), empty: byId("feed-empty") };
  return { ...elements, bell: byId("bell"), badge: byId("badge") };
}

/** @returns {import("./dashboard-reports.js").ReportElements} */
export function reportElements() {
  const rows = { list: byId("reports"), empty: byId("reports-empty"), count: byId("reports-count"), template: byId("work-row") };
  const form = { form: byId("report-form"), rows: byId("report-rows"), rowTemplate: byId("report-row"), addRow: byId("report-add-row") };
  return { ...rows, ...form, pictures: byId("report-pictures"), sample: byId("report-sample"), note: byId("report-note") };
}

/** @returns {import("./dashboard-transcriptions.js").TranscriptionElements} */
export function transcriptionElements() {
  const rows = { list: byId("transcriptions"), empty: byId("transcriptions-empty"), count: byId("transcriptions-count"), template: byId("work-row") };
  const form = { file: byId("audio-file"), choose: byId("audio-choose"), sample: byId("audio-sample"), language: byId("audio-language") };
  return { ...rows, ...form, note: byId("transcriptions-note") };
}

/** @returns {import("./dashboard-queues.js").QueueElements} */
export function queueElements() {
  const elements = { panel: byId("queues"), form: byId("queue-form"), input: byId("queue-name"), choices: byId("queue-grants") };
  return { ...elements, list: byId("queue-list"), empty: byId("queues-empty"), template: byId("queue-row"), note: byId("queues-note") };
}
