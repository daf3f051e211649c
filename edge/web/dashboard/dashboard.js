// Wires the client to the page: status pill, rows, jobs, notices and queues.
//
// Promise: live first, then the list, so that nothing falls between the two; a gap
// reloads the lists; whatever fails is said on the page; a job is drawn at most ten
// times a second.

import { DocumentList } from "./dashboard-documents.js";
import { Feed } from "./dashboard-feed.js";
import { Notices } from "./dashboard-notices.js";
import { byId, queueElements, reportElements, transcriptionElements } from "./dashboard-elements.js";
import { QueuesPanel } from "./dashboard-queues.js";
import { ReportsPanel } from "./dashboard-reports.js";
import { SAMPLE_SPEECH } from "./dashboard-samples.js";
import { deviceName, loadConfig, Session } from "./dashboard-session.js";
import { TranscriptionsPanel } from "./dashboard-transcriptions.js";
import { MAX_FILES, Processors } from "./dashboard-upload.js";
import { subjectName, typeName, announcementFor } from "./dashboard-announcements.js";
import { isJobId, Jobs } from "../client/src/jobs.js";
import { ToastNotifications } from "../client/src/toast-notifications.js";
import { DashboardWebSocketClient } from "../client/src/websocket-client.js";

/** Between two loads of the list, in milliseconds. */
const RELOAD_EVERY_MS = 2_000;
/** Between two drawings of progress, in milliseconds. */
const DRAW_EVERY_MS = 100;
/** Jobs with progress that waits to be drawn; beyond, the oldest are skipped. */
const MAX_MOVING = 100;

/** @type {Notices | undefined} */
let notices;
const toasts = new ToastNotifications(byId("toasts"), { onReceipt: (id, state) => notices?.report(id, state) });

/** @param {any} detail of `state` @param {boolean} degraded */
function drawPill(detail, degraded) {
  const waits = Math.ceil((detail.retryInMs ?? 0) / 1_000);
  const names = {
    connected: degraded ? "Delivery paused" : "Connected",
    connecting: waits > 1 ? `Reconnecting in ${waits} s` : "Connecting …",
    disconnected: "Disconnected",
  };
  const state = /** @type {keyof typeof names} */ (detail.state);
  const pill = byId("connection");
  pill.dataset.state = degraded && state === "connected" ? "degraded" : state;
  byId("connection-text").textContent = names[state];
  pill.title = degraded ? "The notifier is away. This page stays connected, updates will follow." : (detail.sentence ?? "");
  byId("reconnect").hidden = state !== "disconnected";
}

/** Swings the bell in the header, unless motion is reduced (CSS decides). */
function ring() {
  const bell = byId("bell");
  bell.classList.remove("ringing");
  void bell.offsetWidth;
  bell.classList.add("ringing");
}

class Dashboard {
  #processors;
  #documents;
  #reports;
  #transcriptions;
  #client;
  #notices;
  #queues;
  #jobs = new Jobs();
  #jobsKey;
  /** Names of results, by job; @type {Map<string, string>} */
  #names = new Map();
  /** Progress that is drawn next, by job; @type {Map<string, any>} */
  #moving = new Map();
  #drawAt = 0;
  #reloadAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #reloadTimer;

  /**
   * @param {import("./dashboard-session.js").PageConfig} config
   * @param {Session} session
   */
  constructor(config, session) {
    byId("user").textContent = session.user;
    this.#processors = new Processors(config.processorsUrl, session);
    this.#documents = new DocumentList(byId("documents"), byId("documents-empty"), byId("document-row"), () => this.#reloadSoon(), (jobId) => this.#cancel(jobId));
    this.#reports = new ReportsPanel(reportElements(), (report) => this.#requestReport(report), (jobId) => this.#cancel(jobId));
    this.#transcriptions = new TranscriptionsPanel(transcriptionElements(), (file, language) => this.#transcribe(file, language), (jobId) => this.#cancel(jobId));
    byId("audio-sample-text").textContent = SAMPLE_SPEECH;
    this.#client = new DashboardWebSocketClient({
      url: config.wsUrl,
      token: (cause) => this.#token(session, cause, session.edgeGivesTokens),
      storage: sessionStorage,
      storageKey: `belfry.positions.${session.user}`,
      device: deviceName(),
    });
    const elements = { list: byId("feed"), empty: byId("feed-empty"), bell: byId("bell"), badge: byId("badge") };
    const feed = new Feed(elements, sessionStorage, `belfry.feed.${session.user}`);
    this.#notices = notices = new Notices({ toasts, feed, client: this.#client, now: config.now, ring, showFeed: () => byId("feed-title").focus() });
    byId("bell").addEventListener("click", () => this.#notices.readAll());
    this.#queues = new QueuesPanel(this.#client, session, queueElements(), sessionStorage);
    this.#jobsKey = `belfry.jobs.${session.user}`;
    this.#jobs.restore(sessionStorage.getItem(this.#jobsKey));
    this.#listen();
    this.#takeFiles();
    // For the console and for tests.
    Object.assign(window, { belfryClient: this.#client });
  }

  /** @param {Session} session */
  async start(session) {
    // A person may take long to find a token: the client begins when there is one.
    try {
      await session.token();
    } catch (cause) {
      toasts.show({ kind: "error", title: "No access", text: String(cause), key: "token" });
      return drawPill({ state: "disconnected" }, false);
    }
    this.#queues.start();
    this.#client.connect();
    this.#reloadSoon();
  }

  /**
   * @param {Session} session
   * @param {import("../client/src/token-source.js").TokenCause} cause
   * @param {boolean} again whether asking again can help
   */
  async #token(session, cause, again) {
    try {
      return await session.token(cause !== "connect");
    } catch (failure) {
      // The dialog is not shown again to a person who declined.
      if (!again && cause !== "refresh") this.#client.close();
      throw failure;
    }
  }

  #listen() {
    const client = this.#client;
    /** @type {any} */
    let last = { state: client.state };
    client.on("state", (detail) => drawPill((last = detail), client.degraded));
    client.on("degraded", () => drawPill(last, true));
    client.on("recovered", () => drawPill(last, false));
    client.on("connected", ({ user }) => {
      byId("user").textContent = user;
      this.#notices.begin();
      this.#reloadSoon();
    });
    client.on("gap", () => {
      this.#reloadSoon();
      // One toast, though an outage often cuts several streams at once.
      const text = "Some updates are too old to be replayed. The lists were loaded again.";
      toasts.show({ kind: "info", title: "Caught up", text, key: "gap" });
    });
    client.on("error", ({ code, message }) => {
      if (code === "token_failed") toasts.show({ kind: "error", title: "No access", text: message, key: "token" });
    });
    client.on("state", ({ state, sentence }) => {
      if (state === "disconnected" && sentence) toasts.error(sentence, "Disconnected");
    });
    byId("reconnect").addEventListener("click", () => client.connect());
    client.on("retract", ({ id }) => this.#notices.retract(id));
    client.on("event", (event) => this.#onEvent(event));
  }

  /** @param {any} event */
  #onEvent(event) {
    // A late event that a later one of the job has overtaken.
    if (!this.#jobs.take(event)) return;
    if (event.type === "job_progress") return this.#moves(event);
    if (isJobId(event.jobId)) this.#turns(event);
    const place = this.#placeOf(event);
    if (place && event.type.endsWith("_started")) {
      place.list.put({ ...pick(event), createdAt: event.timestamp });
      return place.list.revive(place.id);
    }
    if (place) this.#ended(event, place);
    const announcement = announcementFor(event, this.#nameOf(event, place));
    if (announcement === null) return;
    const known = place?.list.get(place.id) !== undefined;
    this.#notices.announce(event, announcement, known ? () => place.list.reveal(place.id) : undefined);
  }

  /**
   * The row that an event is about.
   *
   * @param {any} event
   * @returns {{list: DocumentList | import("./dashboard-records.js").RecordList, id: string} | undefined}
   */
  #placeOf({ type, documentId, reportId, transcriptionId }) {
    const started = String(type);
    if (started.startsWith("image_") && documentId) return { list: this.#documents, id: documentId };
    if (started.startsWith("pdf_") && reportId) return { list: this.#reports.list, id: reportId };
    if (started.startsWith("transcription_") && transcriptionId) return { list: this.#transcriptions.list, id: transcriptionId };
    return undefined;
  }

  /** A job began or ended: what was drawn of it until now is past. @param {any} event */
  #turns(event) {
    this.#moving.delete(`job ${event.jobId}`);
    const name = subjectName(event);
    if (this.#jobs.get(event.jobId)?.phase === "running" && name !== undefined) this.#names.set(event.jobId, name);
    for (const id of this.#names.keys()) if (this.#jobs.get(id)?.phase !== "running" && id !== event.jobId) this.#names.delete(id);
    try {
      sessionStorage.setItem(this.#jobsKey, this.#jobs.save());
    } catch {
      // Full or switched off: a reloaded page knows of jobs what the list says.
    }
  }

  /**
   * What the page calls the thing that an event is about: its row's name, or that
   * of its job. An event that names neither has only what it says itself.
   *
   * @param {any} event
   * @param {{list: DocumentList | import("./dashboard-records.js").RecordList, id: string} | undefined} place
   */
  #nameOf({ jobId }, place) {
    return (isJobId(jobId) ? this.#names.get(jobId) : undefined) ?? place?.list.nameOf(place.id);
  }

  /** At most ten times a second, however fast it comes. @param {any} event */
  #moves(event) {
    const { jobId, resourceId } = event;
    // Progress of nothing in particular has no place on the page.
    if (!isJobId(jobId) && !resourceId) return;
    if (this.#moving.size === 0) setTimeout(() => this.#drawProgress(), Math.max(0, this.#drawAt - performance.now()));
    this.#moving.set(isJobId(jobId) ? `job ${jobId}` : `resource ${resourceId}`, event);
    const [oldest] = this.#moving.keys();
    if (this.#moving.size > MAX_MOVING && oldest !== undefined) this.#moving.delete(oldest);
  }

  #drawProgress() {
    this.#drawAt = performance.now() + DRAW_EVERY_MS;
    const events = [...this.#moving.values()];
    this.#moving.clear();
    for (const event of events) {
      const { jobId, percent, stage, partial } = event;
      const place = this.#rowOf(event);
      const status = place?.list.get(place.id)?.status;
      if (status !== undefined && status !== "pending" && status !== "stalled") continue;
      place?.list.revive(place.id);
      place?.list.progress(place.id, { percent, stage, partial });
      if (isJobId(jobId)) toasts.progress(jobId, percent, stage, this.#nameOf(event, place));
    }
  }

  /**
   * The row that progress moves: its job's, or that of its resource unless another
   * job works on it.
   *
   * @param {any} event
   * @returns {{list: DocumentList | import("./dashboard-records.js").RecordList, id: string} | undefined}
   */
  #rowOf({ jobId, resourceId }) {
    for (const list of this.#lists()) {
      const id = isJobId(jobId) ? list.idOfJob(jobId) : undefined;
      if (id !== undefined) return { list, id };
      const record = list.get(resourceId);
      if (record && !(isJobId(jobId) && record.jobId)) return { list, id: resourceId };
    }
    return undefined;
  }

  #lists() {
    return [this.#documents, this.#reports.list, this.#transcriptions.list];
  }

  /** @param {any} event @param {{list: DocumentList | import("./dashboard-records.js").RecordList, id: string}} place */
  #ended(event, { list, id }) {
    const update = { ...pick(event), ...(event.errorCode === "stalled" && { status: "stalled" }) };
    const known = list.get(id) !== undefined;
    list.put(known ? update : { ...update, createdAt: event.timestamp });
    const name = known ? list.nameOf(id) : undefined;
    if (name && isJobId(event.jobId)) this.#names.set(event.jobId, name);
    if (list === this.#documents) this.#reports.offer(this.#documents.ready());
    if (event.signedUrlExpired) this.#reloadSoon();
  }

  /** Loads the list now, or when the last load is long enough ago. */
  #reloadSoon() {
    if (this.#reloadTimer !== undefined) return;
    const inMs = Math.max(0, this.#reloadAt - performance.now());
    this.#reloadTimer = setTimeout(() => void this.#reload(), inMs);
  }

  async #reload() {
    this.#reloadAt = performance.now() + RELOAD_EVERY_MS;
    await Promise.all([
      this.#load("images", this.#documents, byId("documents-note")),
      this.#load("reports", this.#reports.list, byId("reports-list-note")),
      this.#load("transcriptions", this.#transcriptions.list, byId("transcriptions-list-note")),
    ]);
    this.#reports.offer(this.#documents.ready());
    this.#reloadTimer = undefined;
  }

  /**
   * @param {"images" | "reports" | "transcriptions"} what
   * @param {{load: (records: any[]) => void}} list
   * @param {HTMLElement} note
   */
  async #load(what, list, note) {
    try {
      const records = await this.#processors.list(what);
      list.load(records.map((record) => this.#withStalled(record)));
      note.textContent = "";
    } catch (cause) {
      note.textContent = cause instanceof Error ? cause.message : String(cause);
    }
  }

  /** The list does not know that a job is stalled. @param {import("./dashboard-row.js").JobRecord} record */
  #withStalled(record) {
    const stalled = record.status === "pending" && this.#jobs.get(record.jobId)?.phase === "stalled";
    return stalled ? { ...record, status: "stalled" } : record;
  }

  #takeFiles() {
    const zone = byId("drop-zone");
    // A drop beside the zone would replace the page by the picture.
    for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
    const input = byId("file");
    input.addEventListener("change", () => {
      this.#send([...input.files]);
      input.value = "";
    });
    byId("choose").addEventListener("click", () => input.click());
    for (const type of ["dragenter", "dragover"]) {
      zone.addEventListener(type, (/** @type {DragEvent} */ event) => {
        event.preventDefault();
        zone.classList.add("over");
      });
    }
    for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("over"));
    zone.addEventListener("drop", (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      this.#send([...(event.dataTransfer?.files ?? [])]);
    });
    byId("sample").addEventListener("click", async () => {
      const picture = await fetch("/web/sample.jpg");
      if (!picture.ok) return toasts.error("The sample picture could not be loaded.");
      this.#send([new File([await picture.blob()], "sample.jpg", { type: "image/jpeg" })]);
    });
    byId("broken").addEventListener("click", () => {
      this.#send([new File(["This is not a picture."], "broken.jpg", { type: "image/jpeg" })]);
    });
  }

  /** @param {File[]} files */
  #send(files) {
    if (files.length > MAX_FILES) toasts.info(`Only the first ${MAX_FILES} of ${files.length} files are sent.`, "Too many at once");
    const documentType = byId("document-type").value;
    for (const file of files.slice(0, MAX_FILES)) void this.#upload(file, documentType);
  }

  /** @param {File} file @param {string} documentType */
  async #upload(file, documentType) {
    try {
      const { documentId, jobId } = await this.#processors.upload(file, documentType);
      const known = this.#documents.get(documentId);
      this.#accepted({ documentId, documentType, jobId }, typeName(documentType), this.#documents, documentId);
      if (!known || known.status === "pending") this.#documents.preview(documentId, file);
    } catch (cause) {
      toasts.error(cause instanceof Error ? cause.message : String(cause), `${file.name} was not accepted`);
    }
  }

  /** Draws what was accepted, unless its event came first. @param {any} record @param {string} name @param {DocumentList | import("./dashboard-records.js").RecordList} list @param {string} id */
  #accepted(record, name, list, id) {
    const known = list.get(id);
    list.put({ ...record, status: "pending", ...(!known && { createdAt: new Date().toISOString() }) });
    if (!isJobId(record.jobId)) return;
    const job = this.#jobs.get(record.jobId);
    if (!job || (job.phase === "running" && job.percent === undefined)) toasts.progress(record.jobId, 0, "queued", name);
  }

  /** @param {import("./dashboard-reports.js").Report} report */
  async #requestReport(report) {
    const { reportId, jobId } = await this.#processors.report(report);
    this.#accepted({ reportId, jobId, title: report.title }, report.title, this.#reports.list, reportId);
  }

  /** @param {File} file @param {string} language */
  async #transcribe(file, language) {
    const { transcriptionId, jobId } = await this.#processors.transcribe(file, language);
    this.#accepted({ transcriptionId, jobId, fileName: file.name }, file.name, this.#transcriptions.list, transcriptionId);
  }

  /** @param {string} jobId */
  async #cancel(jobId) {
    try {
      await this.#processors.cancel(jobId);
    } catch (cause) {
      toasts.error(cause instanceof Error ? cause.message : String(cause), "It could not be cancelled");
    }
  }
}

/** Of an event, what is its own and no row's. */
const ENVELOPE = new Set(["type", "id", "stream", "queue", "offset", "position", "timestamp", "expired", "signedUrlExpired"]);

/** The fields of an event that a row is made of. @param {any} event @returns {any} */
function pick(event) {
  return Object.fromEntries(Object.entries(event).filter(([field]) => !ENVELOPE.has(field)));
}

try {
  const config = await loadConfig();
  const session = new Session(config);
  await new Dashboard(config, session).start(session);
} catch (cause) {
  toasts.error(cause instanceof Error ? cause.message : String(cause), "The dashboard could not start");
}
