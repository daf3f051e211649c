// The events of the page's contract, for every browser: what is published, what the
// page shows of it and what its handlers receive.

/** Each event with what an existing page shows of it: the toast's kind and text. */
export const SHOWN = [
  ["image_processing_started", { documentId: "d1", documentType: "passport_picture", jobId: "j1" }, "progress", "Passport picture"],
  ["job_progress", { percent: 40, stage: "decoding", jobId: "j1" }, "progress", "decoding"],
  ["image_processed", { documentId: "d1", documentType: "passport_picture", jobId: "j1" }, "success", "Passport picture is ready"],
  ["image_processing_failed", { documentId: "d2", documentType: "receipt_picture", jobId: "j2", error: "The file is damaged." }, "error", "The file is damaged."],
  ["pdf_generation_started", { reportId: "r1", title: "Monthly figures", jobId: "j3" }, "progress", "Monthly figures"],
  ["pdf_generated", { reportId: "r1", pages: 4, jobId: "j3" }, "success", "Monthly figures is ready"],
  ["pdf_generation_failed", { reportId: "r2", jobId: "j4", error: "A row is too long." }, "error", "A row is too long."],
  ["transcription_started", { transcriptionId: "t1", jobId: "j5" }, "progress", "Transcription"],
  ["transcription_complete", { transcriptionId: "t1", text: "Good morning.", jobId: "j5" }, "success", "Good morning."],
  ["transcription_failed", { transcriptionId: "t2", jobId: "j6", error: "No engine is set." }, "error", "No engine is set."],
  ["status_update", { updateType: "backup", resource: "accounts", status: "finished" }, "info", "Accounts: finished"],
  ["custom", { name: "order_shipped", data: { order: "A-2041" } }, "info", "order: A-2041"],
];

/** Sections of an existing page, each with a count of 3 and two rows. */
export const SECTIONS = ["images", "reports", "transcriptions", "updates"].map((name) => `<section data-belfry-section="${name}"><b data-belfry-count="${name}">3</b><ul><li data-belfry-row="d1">one</li><li data-belfry-row="r1">two</li></ul></section>`).join("");
/** What the counts are after `SHOWN`: one more for each result, none for a failure. */
export const COUNTS = { images: "4", reports: "4", transcriptions: "4", updates: "3" };

/** Of each type: what is published, and what the handler's event has beside its place. */
export const EVENTS = [
  ["image_processing_started", { documentId: "d1", documentType: "passport_picture" }, { status: "pending" }],
  ["image_processed", { documentId: "d1", documentType: "passport_picture" }, { status: "completed" }],
  ["image_processing_failed", { documentId: "d1", errorCode: "damaged_file", error: "The file is damaged." }, { status: "failed" }],
  ["pdf_generation_started", { reportId: "r1", title: "Figures" }, { status: "pending" }],
  ["pdf_generated", { reportId: "r1", pages: 4 }, { status: "completed" }],
  ["pdf_generation_failed", { reportId: "r1", errorCode: "too_large", error: "Too large." }, { status: "failed" }],
  ["transcription_started", { transcriptionId: "t1" }, { status: "pending" }],
  ["transcription_complete", { transcriptionId: "t1", text: "Hello", language: "en" }, { status: "completed" }],
  ["transcription_failed", { transcriptionId: "t1", errorCode: "not_configured", error: "No engine." }, { status: "failed" }],
  ["job_progress", { percent: 40, stage: "reading", jobId: "j1" }, {}],
  ["status_update", { updateType: "backup", resource: "accounts", status: "finished" }, {}],
  ["custom", { name: "order_shipped", data: { order: "A-2041" } }, {}],
];

/** Names that are no event's, and the nearest that is. */
export const WRONG_NAMES = [["image_procesed", "image_processed"], ["imageProcessed", "image_processed"], ["disconect", "disconnected"], ["PDF-Generated", "pdf_generated"]];

/** Markup that sets `window.pwned` where it is not text. */
export const EVIL = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;

/** Each type with markup in every field. @type {[string, Record<string, any>][]} */
export const EVIL_EVENTS = (() => {
  const fields = { documentId: EVIL, documentType: EVIL, reportId: EVIL, title: EVIL, transcriptionId: EVIL, text: EVIL, language: "en", resourceId: EVIL, stage: EVIL, partial: EVIL, percent: 40, updateType: "x", resource: EVIL, status: EVIL, error: EVIL, name: "a.b", data: { message: EVIL, [EVIL]: EVIL } };
  const of = {
    image_processing_started: ["documentId", "documentType"],
    image_processed: ["documentId", "documentType"],
    image_processing_failed: ["documentId", "documentType", "error"],
    pdf_generation_started: ["reportId", "title"],
    pdf_generated: ["reportId"],
    pdf_generation_failed: ["reportId", "error"],
    transcription_started: ["transcriptionId"],
    transcription_complete: ["transcriptionId", "text", "language"],
    transcription_failed: ["transcriptionId", "error"],
    status_update: ["updateType", "resource", "status", "error"],
    custom: ["name", "data"],
    job_progress: ["percent", "stage", "resourceId", "partial"],
  };
  let n = 0;
  return Object.entries(of).map(([type, names]) => {
    const body = Object.fromEntries(names.map((name) => [name, fields[name]]));
    const jobId = `${EVIL}${n}`.slice(0, 120);
    n += type.endsWith("_started") ? 0 : 1;
    return [type, { ...body, jobId }];
  });
})();
