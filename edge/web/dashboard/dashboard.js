// Wires the client to the page: status pill, rows, jobs, notices and queues.
//
// Promise: live first, then the list, so that nothing falls between the two; a gap
// reloads the lists; whatever fails is said on the page; a job is drawn at most ten
// times a second.

import { Addresses, readConfig } from "./dashboard-addresses.js";
import { ConnectionPanel } from "./dashboard-connection.js";
import { DocumentList } from "./dashboard-documents.js";
import { takeFiles } from "./dashboard-drop.js";
import { Feed } from "./dashboard-feed.js";
import { Notices } from "./dashboard-notices.js";
import { byId, documentElements, feedElements, queueElements, reportElements, transcriptionElements } from "./dashboard-elements.js";
import { Places } from "./dashboard-places.js";
import { QueuesPanel } from "./dashboard-queues.js";
import { ReportsPanel } from "./dashboard-reports.js";
import { SAMPLE_SPEECH } from "./dashboard-samples.js";
import { deviceName, Session } from "./dashboard-session.js";
import { TranscriptionsPanel } from "./dashboard-transcriptions.js";
import { Processors } from "./dashboard-upload.js";
import { typeName, announcementFor } from "../client/src/announcements.js";
import { isJobId, Jobs } from "../client/src/jobs.js";
import { ToastNotificationSystem } from "../client/src/toast-notifications.js";
import { DashboardWebSocketClient } from "../client/src/websocket-client.js";

/** Between two loads of the list, in milliseconds. */
const RELOAD_EVERY_MS = 2_000;
/** Between two drawings of progress, in milliseconds. */
const DRAW_EVERY_MS = 100;
/** Jobs with progress that waits to be drawn; beyond, the oldest are skipped. */
const MAX_MOVING = 100;

/** @type {Notices | undefined} */
let notices;
const toasts = new ToastNotificationSystem({ container: byId("toasts"), onReceipt: (id, state) => notices?.report(id, state) });

/** Swings the bell in the header, unless motion is reduced (CSS decides). */
function ring() {
  const bell = byId("bell");
  bell.classList.remove("ringing");
  void bell.offsetWidth;
  bell.classList.add("ringing");
}

class Dashboard {
  #addresses;
  #session;
  #processors;
  #documents;
  #reports;
  #transcriptions;
  #places;
  #client;
  #notices;
  #queues;
  #jobs = new Jobs();
  #jobsKey;
  /** Progress that is drawn next, by job; @type {Map<string, any>} */
  #moving = new Map();
  #drawAt = 0;
  #reloadAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #reloadTimer;

  /**
   * @param {Addresses} addresses
   * @param {Session} session
   */
  constructor(addresses, session) {
    byId("user").textContent = session.user;
    this.#addresses = addresses;
    this.#session = session;
    this.#processors = new Processors(addresses.processors, session);
    const cancel = (/** @type {string} */ jobId) => this.#cancel(jobId);
    this.#documents = new DocumentList(documentElements(), () => this.#reloadSoon(), cancel);
    this.#reports = new ReportsPanel(reportElements(), (report) => this.#requestReport(report), cancel);
    const sample = addresses.beside("/web/sample.wav").href;
    this.#transcriptions = new TranscriptionsPanel(transcriptionElements(), sample, (file, language) => this.#transcribe(file, language), cancel);
    this.#places = new Places({ documents: this.#documents, reports: this.#reports.list, transcriptions: this.#transcriptions.list });
    byId("audio-sample-text").textContent = SAMPLE_SPEECH;
    this.#client = new DashboardWebSocketClient({
      url: addresses.ws,
      token: (cause) => this.#token(cause, session.edgeGivesTokens),
      storage: sessionStorage,
      storageKey: `belfry.positions.${session.user}`,
      device: deviceName(),
    });
    new ConnectionPanel(this.#client);
    const feed = new Feed(feedElements(), sessionStorage, `belfry.feed.${session.user}`, (ids) => this.#notices.read(ids));
    this.#notices = notices = new Notices({ toasts, feed, client: this.#client, now: () => session.now(), ring });
    byId("bell").addEventListener("click", () => feed.open());
    this.#queues = new QueuesPanel(this.#client, session, queueElements(), sessionStorage);
    this.#jobsKey = `belfry.jobs.${session.user}`;
    this.#jobs.restore(sessionStorage.getItem(this.#jobsKey));
    this.#listen();
    takeFiles(addresses, toasts, (file, documentType) => void this.#upload(file, documentType));
    // For the console and for tests.
    Object.assign(window, { belfryClient: this.#client });
  }

  async start() {
    // A person may take long to find a token: the client begins when there is one.
    try {
      await this.#session.token();
    } catch (cause) {
      toasts.show({ kind: "error", title: "No access", text: String(cause), key: "token" });
      return;
    }
    this.#queues.start();
    this.#client.connect();
    this.#reloadSoon();
  }

  /**
   * @param {import("../client/src/token-source.js").TokenCause} cause
   * @param {boolean} again whether asking again can help
   */
  async #token(cause, again) {
    try {
      return await this.#session.token(cause);
    } catch (failure) {
      // The dialog is not shown again to a person who declined.
      if (!again && cause !== "refresh") this.#client.close();
      throw failure;
    }
  }

  #listen() {
    const client = this.#client;
    client.on("connected", ({ user, expiresInMs }) => {
      byId("user").textContent = user;
      this.#session.accepted(expiresInMs);
      this.#notices.begin();
      this.#reloadSoon();
    });
    client.on("refreshed", ({ expiresInMs }) => this.#session.accepted(expiresInMs));
    client.on("bye", ({ message }) => this.#session.ended(message));
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
    client.on("retract", ({ id }) => this.#notices.retract(id));
    client.on("event", (event) => this.#onEvent(event));
  }

  /** @param {any} event */
  #onEvent(event) {
    // A late event that a later one of the job has overtaken.
    if (!this.#jobs.take(event)) return;
    if (event.type === "job_progress") return this.#moves(event);
    if (isJobId(event.jobId)) this.#turns(event);
    const place = this.#places.of(event);
    if (place && event.type.endsWith("_started")) {
      place.list.put({ ...this.#pick(event), [place.list.idField]: place.id, createdAt: event.timestamp });
      place.list.revive(place.id);
      return this.#catchUp(place.list, place.id);
    }
    if (place) this.#ended(event, place);
    const announcement = announcementFor(event, this.#places.nameOf(event, place));
    if (announcement === null) return;
    const known = place?.list.get(place.id) !== undefined;
    this.#notices.announce(event, announcement, known ? () => place.list.reveal(place.id) : undefined);
  }

  /** A job began or ended: what was drawn of it until now is past. @param {any} event */
  #turns(event) {
    this.#moving.delete(`job ${event.jobId}`);
    const runs = (/** @type {string} */ id) => this.#jobs.get(id)?.phase === "running";
    if (runs(event.jobId)) this.#places.began(event);
    this.#places.forget((id) => runs(id) || id === event.jobId);
    try {
      sessionStorage.setItem(this.#jobsKey, this.#jobs.save());
    } catch {
      // Full or switched off: a reloaded page knows of jobs what the list says.
    }
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
      const place = this.#places.ofProgress(event);
      const status = place?.list.get(place.id)?.status;
      if (status !== undefined && status !== "pending" && status !== "stalled") continue;
      place?.list.revive(place.id);
      place?.list.progress(place.id, { percent, stage, partial });
      if (isJobId(jobId)) toasts.progress(jobId, percent, stage, this.#places.nameOf(event, place));
    }
  }

  /** A row that was drawn after its job's progress came shows it too. @param {import("./dashboard-places.js").List} list @param {string} id */
  #catchUp(list, id) {
    const job = this.#jobs.get(list.get(id)?.jobId);
    if (job?.phase === "running" && job.percent !== undefined) list.progress(id, { percent: job.percent, stage: job.stage });
  }

  /** @param {any} event @param {import("./dashboard-places.js").Place} place */
  #ended(event, { list, id }) {
    const update = { ...this.#pick(event), [list.idField]: id, ...(event.errorCode === "stalled" && { status: "stalled" }) };
    const known = list.get(id) !== undefined;
    list.put(known ? update : { ...update, createdAt: event.timestamp });
    const name = known ? list.nameOf(id) : undefined;
    if (name && isJobId(event.jobId)) this.#places.name(event.jobId, name);
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
   * @param {import("./dashboard-places.js").List} list
   * @param {HTMLElement} note
   */
  async #load(what, list, note) {
    try {
      const records = await this.#processors.list(what);
      list.load(records.map((record) => this.#withLinks(this.#withStalled(record))));
      for (const record of records) this.#catchUp(list, record[list.idField]);
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

  /** Links as this page reaches them. @param {any} record @returns {any} */
  #withLinks(record) {
    const { signedUrl, thumbnailUrl } = record;
    return { ...record, signedUrl: this.#addresses.link(signedUrl), thumbnailUrl: this.#addresses.link(thumbnailUrl) };
  }

  /** The fields of an event that a row is made of. @param {any} event @returns {any} */
  #pick(event) {
    return this.#withLinks(Object.fromEntries(Object.entries(event).filter(([field]) => !ENVELOPE.has(field))));
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

  /** Draws what was accepted, unless its event came first. @param {any} record @param {string} name @param {import("./dashboard-places.js").List} list @param {string} id */
  #accepted(record, name, list, id) {
    const known = list.get(id);
    list.put({ ...record, status: "pending", ...(!known && { createdAt: new Date().toISOString() }) });
    if (!isJobId(record.jobId)) return;
    this.#catchUp(list, id);
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
      toasts.error(cause instanceof Error ? cause.message : String(cause), "The job could not be cancelled");
    }
  }
}

/** Of an event, what is its own and no row's. */
const ENVELOPE = new Set(["type", "id", "stream", "queue", "offset", "position", "timestamp", "expired", "signedUrlExpired"]);

try {
  const config = readConfig();
  const addresses = new Addresses(config, document.baseURI);
  const session = new Session(config.devTokens, addresses.beside("/dev/token").href);
  await new Dashboard(addresses, session).start();
} catch (cause) {
  toasts.error(cause instanceof Error ? cause.message : String(cause), "The dashboard could not start");
}
