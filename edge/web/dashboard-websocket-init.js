// Wires the client to the page: status pill, rows, toasts, feed and bell.
//
// Promise: live first, then the list, so that nothing falls between the two; a gap
// reloads the list; whatever fails is said on the page.

import { DocumentList, typeName } from "./dashboard-documents.js";
import { Feed } from "./dashboard-feed.js";
import { loadConfig, Session } from "./dashboard-session.js";
import { MAX_FILES, Processors } from "./dashboard-upload.js";
import { ToastNotifications } from "./toast-notifications.js";
import { DashboardWebSocketClient } from "./websocket-client.js";

/** An event older than this was missed, and is told in one toast with its like, in milliseconds. */
const MISSED_AFTER_MS = 60_000;
/** Between two loads of the list, in milliseconds. */
const RELOAD_EVERY_MS = 2_000;

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id) ?? fail(`the page has no #${id}`);

/** @param {string} message @returns {never} */
function fail(message) {
  throw new Error(message);
}

const toasts = new ToastNotifications(byId("toasts"));

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

/** Swings the bell in the header, unless people asked for stillness (CSS decides). */
function ring() {
  const bell = byId("bell");
  bell.classList.remove("ringing");
  void bell.offsetWidth;
  bell.classList.add("ringing");
}

class Dashboard {
  #processors;
  #documents;
  #feed;
  #client;
  #missed = 0;
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
    this.#documents = new DocumentList(byId("documents"), byId("documents-empty"), byId("document-row"), () => this.#reloadSoon());
    const parts = { list: byId("feed"), empty: byId("feed-empty"), bell: byId("bell"), badge: byId("badge") };
    this.#feed = new Feed(parts, sessionStorage, `belfry.feed.${session.user}`);
    this.#client = new DashboardWebSocketClient({
      url: config.wsUrl,
      token: (cause) => this.#token(session, cause, config.devTokens),
      storage: sessionStorage,
      storageKey: `belfry.positions.${session.user}`,
    });
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
      toasts.show({ kind: "error", title: "No access", text: String(cause), jobId: "token" });
      return drawPill({ state: "disconnected" }, false);
    }
    this.#client.connect();
    this.#reloadSoon();
  }

  /**
   * @param {Session} session
   * @param {import("./token-source.js").TokenCause} cause
   * @param {boolean} again whether asking again can help
   */
  async #token(session, cause, again) {
    try {
      return await session.token(cause !== "connect");
    } catch (failure) {
      // A person who said no is not asked over and over.
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
    client.on("connected", () => {
      this.#missed = 0;
      this.#reloadSoon();
    });
    client.on("gap", () => {
      this.#reloadSoon();
      // One toast, though an outage often cuts several streams at once.
      const text = "Some updates are too old to be replayed. The list was loaded again.";
      toasts.show({ kind: "info", title: "Caught up", text, jobId: "gap" });
    });
    client.on("error", ({ code, message }) => {
      if (code === "token_failed") toasts.show({ kind: "error", title: "No access", text: message, jobId: "token" });
    });
    client.on("state", ({ state, sentence }) => {
      if (state === "disconnected" && sentence) toasts.error(sentence, "Disconnected");
    });
    byId("reconnect").addEventListener("click", () => client.connect());

    client.on("image_processing_started", (event) => this.#started(event));
    client.on("job_progress", (event) => this.#progress(event));
    client.on("image_processed", (event) => this.#ended(event));
    client.on("image_processing_failed", (event) => this.#ended(event));
    client.on("event", (event) => this.#other(event));
  }

  /** @param {any} event */
  #started(event) {
    this.#documents.put({ ...pick(event), createdAt: event.timestamp });
  }

  /** @param {any} event */
  #progress(event) {
    const { jobId, percent, stage, resourceId } = event;
    const record = this.#documents.get(resourceId);
    if (record && record.status !== "pending") return;
    this.#documents.progress(resourceId, { percent, stage });
    if (jobId) toasts.progress(jobId, percent, stage, typeName(record?.documentType));
  }

  /** @param {any} event */
  #ended(event) {
    const failed = event.type === "image_processing_failed";
    const known = this.#documents.get(event.documentId);
    this.#documents.put(known ? pick(event) : { ...pick(event), createdAt: event.timestamp });
    if (event.signedUrlExpired) this.#reloadSoon();
    const name = typeName(event.documentType ?? known?.documentType);
    const text = failed ? event.error || "It could not be processed." : "It is ready to be viewed.";
    this.#tell(event, failed ? "error" : "success", `${name} ${failed ? "failed" : "is ready"}`, text);
  }

  /** @param {any} event */
  #other(event) {
    if (event.type === "status_update") {
      const failed = event.status === "failed" || Boolean(event.error);
      this.#tell(event, failed ? "error" : "info", typeName(event.updateType), event.error || `${typeName(event.resource)}: ${event.status}`);
    } else if (event.type === "custom") {
      this.#tell(event, "info", String(event.name), String(event.data?.message ?? event.data?.text ?? ""));
    } else if (/^(pdf|transcription)_.*(generated|complete|failed)$/.test(event.type)) {
      const failed = event.status === "failed";
      this.#tell(event, failed ? "error" : "success", typeName(event.type), event.error ?? "");
    }
  }

  /**
   * An ended thing: feed, bell and toast.
   *
   * @param {any} event
   * @param {"info" | "success" | "error"} kind
   * @param {string} title
   * @param {string} text
   */
  #tell(event, kind, title, text) {
    const entry = kind === "success" || text === "" ? title : `${title}: ${text}`;
    if (!this.#feed.add({ id: event.id, at: event.timestamp, kind, text: entry })) return;
    ring();
    if (Date.now() - Date.parse(event.timestamp) > MISSED_AFTER_MS) {
      this.#missed += 1;
      const updates = this.#missed === 1 ? "One update" : `${this.#missed} updates`;
      toasts.show({ kind: "info", title: "While you were away", text: `${updates}, see the activity.`, jobId: "missed" });
    } else {
      toasts.show({ kind, title, text, jobId: event.jobId });
    }
  }

  /** Loads the list now, or when the last load is long enough ago. */
  #reloadSoon() {
    if (this.#reloadTimer !== undefined) return;
    const inMs = Math.max(0, this.#reloadAt - performance.now());
    this.#reloadTimer = setTimeout(() => void this.#reload(), inMs);
  }

  async #reload() {
    this.#reloadAt = performance.now() + RELOAD_EVERY_MS;
    try {
      this.#documents.load(await this.#processors.list());
      byId("documents-note").textContent = "";
    } catch (cause) {
      byId("documents-note").textContent = cause instanceof Error ? cause.message : String(cause);
    } finally {
      this.#reloadTimer = undefined;
    }
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
      this.#documents.put({ documentId, documentType, status: "pending", jobId, ...(!known && { createdAt: new Date().toISOString() }) });
      if (!known || known.status === "pending") {
        this.#documents.preview(documentId, file);
        toasts.progress(jobId, 0, "waiting for its turn", typeName(documentType));
      }
    } catch (cause) {
      toasts.error(cause instanceof Error ? cause.message : String(cause), `${file.name} was not accepted`);
    }
  }
}

/** The fields of an event that a row is made of. @param {any} event */
function pick(event) {
  const { documentId, documentType, status, signedUrl, signedUrlExpiresAt, thumbnailUrl, processingDuration, width, height, errorCode, error, jobId } = event;
  return { documentId, documentType, status, signedUrl, signedUrlExpiresAt, thumbnailUrl, processingDuration, width, height, errorCode, error, jobId };
}

try {
  const config = await loadConfig();
  const session = new Session(config);
  await new Dashboard(config, session).start(session);
} catch (cause) {
  toasts.error(cause instanceof Error ? cause.message : String(cause), "The dashboard could not start");
}
