// Makes `src/event-types.js` and `dist/belfry-client.d.ts` from the message
// reference: the table of events in edge/PROTOCOL.md, and `types/api.d.ts`.
//
// Promise: the same reference gives the same bytes; a field that has no type here
// is refused, so that a new one cannot be missing in the types. Tests run it again
// and compare, and check every golden frame of the edge against the types.

import { readFileSync, writeFileSync } from "node:fs";

const at = (/** @type {string} */ path) => new URL(path, import.meta.url);
const reference = readFileSync(at("../../PROTOCOL.md"), "utf8");

/** Types of fields, by name; `?` at the end: left out if empty. */
const FIELDS = {
  documentId: ["string", "The document's id."],
  documentType: ["string?", "What the picture shows, by the publisher's own list."],
  signedUrl: ["string?", "Where the result can be fetched until `signedUrlExpiresAt`. An expiring secret."],
  signedUrlExpiresAt: ["string?", "RFC 3339, UTC."],
  thumbnailUrl: ["string?", "Where the thumbnail can be fetched."],
  processingDuration: ["number?", "From acceptance to completion, in milliseconds."],
  width: ["number?", "In pixels."],
  height: ["number?", "In pixels."],
  errorCode: ["string", "Stable, for programs: `unsupported_format`, `stalled`, `cancelled`."],
  error: ["string", "One sentence for people."],
  reportId: ["string", "The report's id."],
  title: ["string?", "The report's title."],
  pages: ["number?", "How many pages it has."],
  bytes: ["number?", "Its size."],
  transcriptionId: ["string", "The transcription's id."],
  text: ["string?", "The whole text."],
  language: ["string?", "BCP 47 tag; absent if the engine did not say."],
  durationMs: ["number?", "Length of the recording, in milliseconds."],
  segments: ["Array<{ startMs: number; endMs: number; text: string }>?", "The text by stretches, in order."],
  percent: ["number", "0 to 100."],
  stage: ["string?", "The step at work, for people."],
  resourceId: ["string?", "The document, report or transcription that is worked on."],
  partial: ["string?", "What exists of the result so far."],
  updateType: ["string", "What kind of change: `processing_failed`."],
  resource: ["string", "What it is about: `user_data`."],
  status: ["string", "The new status."],
  data: ["Record<string, any>?", "Details."],
  name: ["string", "Lower snake case with dots: `billing.invoice_paid`."],
};

/** Where a field differs from its entry above, by event and field. */
const EXCEPTIONS = { "status_update.error": "string?", "custom.data": "Record<string, any>" };

/** @typedef {{name: string, fields: {name: string, type: string, optional: boolean, doc: string}[]}} EventRow */

/** @returns {EventRow[]} */
function events() {
  const [, table] = /\n\| type \| fields \|\n\| --- \| --- \|\n((?:\|.*\n)+)/.exec(reference) ?? [];
  if (!table) throw new Error("edge/PROTOCOL.md has no table of events `| type | fields |`");
  const rows = [...table.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)].map(([, name = "", fields = ""]) => ({ name, text: fields }));
  // `unknown` stands for what this contract does not know.
  return rows.filter(({ name }) => name !== "unknown").map(({ name, text }) => ({ name, fields: fieldsOf(name, text) }));
}

/** @param {string} event @param {string} text */
function fieldsOf(event, text) {
  const fields = [...text.replace(/\([^)]*\)/g, "").matchAll(/`(\w+)`(?:: `(\w+)`)?/g)];
  return fields.map(([, name = "", literal]) => {
    const [known, doc = ""] = FIELDS[/** @type {keyof typeof FIELDS} */ (name)] ?? [];
    const type = EXCEPTIONS[/** @type {keyof typeof EXCEPTIONS} */ (`${event}.${name}`)] ?? known;
    if (!type) throw new Error(`generate.mjs has no type for the field \`${name}\` of \`${event}\``);
    return { name, type: literal ? `"${literal}"` : type.replace(/\?$/, ""), optional: type.endsWith("?"), doc };
  });
}

/** `image_processed` → `ImageProcessed`. @param {string} name */
const pascal = (name) => name.replace(/(?:^|_)(\w)/g, (_, letter) => letter.toUpperCase());

/** @param {EventRow} event */
function typeOf({ name, fields }) {
  const lines = fields.map(({ name: field, type, optional, doc }) => `  /** ${doc} */\n  ${field}${optional ? "?" : ""}: ${type};\n`);
  const expired = fields.some((field) => field.name === "signedUrl") ? "  /** It was delivered too late: the link is left out. */\n  signedUrlExpired?: true;\n" : "";
  return `export interface ${pascal(name)}Event extends EventBase {\n  type: "${name}";\n${lines.join("")}${expired}}\n`;
}

/** The statuses of some events. @param {EventRow[]} rows @param {string} prefix */
function statuses(rows, prefix) {
  const fields = rows.filter(({ name }) => name.startsWith(prefix)).flatMap((row) => row.fields);
  return fields.filter(({ name }) => name === "status").map(({ type }) => type.slice(1, -1));
}

/** @param {string} name @param {string[]} values @param {string} doc */
function constant(name, values, doc) {
  const lines = values.map((value) => `  ${value.toUpperCase()}: "${value}",\n`);
  return `/** ${doc} */\nexport const ${name} = /** @type {const} */ ({\n${lines.join("")}});\n`;
}

/** @param {string} name @param {string[]} values @param {string} doc */
function declared(name, values, doc) {
  const lines = values.map((value) => `  readonly ${value.toUpperCase()}: "${value}";\n`);
  return `/** ${doc} */\nexport declare const ${name}: {\n${lines.join("")}};\n`;
}

const rows = events();
const constants = /** @type {[string, string[], string][]} */ ([
  ["WS_MESSAGE_TYPES", rows.map(({ name }) => name), "The type of every event."],
  ["DOCUMENT_STATUS", statuses(rows, "image_"), "The statuses of a picture."],
  ["PDF_STATUS", statuses(rows, "pdf_"), "The statuses of a report."],
]);
const map = `/** Every event, by type. */\nexport interface EventMap {\n${rows.map(({ name }) => `  ${name}: ${pascal(name)}Event;\n`).join("")}}\n`;
const api = readFileSync(at("types/api.d.ts"), "utf8");

const printed = "Printed by generate.mjs from edge/PROTOCOL.md; do not edit.";
writeFileSync(at("src/event-types.js"), `// ${printed}\n\n${constants.map((each) => constant(...each)).join("\n")}`);
writeFileSync(at("dist/belfry-client.d.ts"), `// ${printed}\n\n${[...rows.map(typeOf), map, ...constants.map((each) => declared(...each))].join("\n")}\n${api}`);
