// A service that publishes over gRPC, as the contract in proto/ has it, and reads the
// receipts of what it published.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../../proto/", import.meta.url));
const definition = loader.loadSync("belfry/v1/notifier.proto", { includeDirs: [PROTO], enums: String, defaults: true });
const { Notifier } = /** @type {any} */ (grpc.loadPackageDefinition(definition)).belfry.v1;
const NAME = "page-tests";

/** `image_processed` → `imageProcessed`, the body's name in `Event`. @param {string} type */
const bodyName = (type) => type.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** An instant as protobuf has it. @param {number} ms */
const instant = (ms) => ({ seconds: Math.floor(ms / 1_000), nanos: (ms % 1_000) * 1_000_000 });

/**
 * The body of an event from the fields that browsers see.
 *
 * @param {string} type @param {Record<string, any>} fields
 */
function bodyOf(type, { error, errorCode, signedUrl, thumbnailUrl, data, ...rest }) {
  const link = (/** @type {string} */ url) => ({ url, expiresAt: instant(Date.now() + 3_600_000) });
  const failure = type.endsWith("_failed") ? { failure: { code: errorCode ?? "damaged_file", message: error ?? "The file is damaged." } } : { error };
  return { ...rest, ...failure, ...(signedUrl && { signedUrl: link(signedUrl) }), ...(thumbnailUrl && { thumbnailUrl: link(thumbnailUrl) }), ...(data && { dataJson: JSON.stringify(data) }) };
}

export class Publisher {
  #client;
  #metadata = new grpc.Metadata();

  /** @param {{addresses: {grpc: string}, dataDir: string}} belfry */
  static async connect({ addresses, dataDir }) {
    const args = ["token", "service", NAME, "--role", "publisher", "--events", "*", "--targets", "*", "--data-dir", dataDir];
    const { stdout } = await promisify(execFile)(process.env.BELFRY_BIN ?? "", args);
    const publisher = new Publisher();
    publisher.#metadata.set("authorization", `Bearer ${stdout.trim()}`);
    publisher.#client = new Notifier(addresses.grpc, grpc.credentials.createInsecure());
    return publisher;
  }

  close() {
    this.#client.close();
  }

  /** @returns {Promise<string>} the event's id */
  async publish(user, type, fields = {}) {
    const [id] = await this.publishAll(user, [[type, fields]]);
    return id;
  }

  /**
   * Publishes events in their order.
   *
   * @param {string} user @param {[string, Record<string, any>][]} events
   * @returns {Promise<string[]>} their ids
   */
  publishAll(user, events) {
    const call = this.#client.publishStream(this.#metadata);
    const ids = [];
    return new Promise((resolve, reject) => {
      call.on("error", reject);
      call.on("data", ({ accepted, refused }) => {
        if (refused) return reject(new Error(`${refused.reason}: ${refused.message} ${JSON.stringify(refused.fieldViolations)}`));
        ids.push(accepted.eventId);
        if (ids.length === events.length) call.end();
      });
      call.on("end", () => resolve(ids));
      for (const [type, fields] of events) call.write({ publish: this.#request(user, type, fields) });
    });
  }

  #request(user, type, { jobId, ...fields }) {
    const job = jobId && { job: { id: jobId } };
    const durability = type === "job_progress" ? "DURABILITY_EPHEMERAL" : "DURABILITY_STORED";
    return { userId: user, event: { [bodyName(type)]: bodyOf(type, fields) }, durability, ...job };
  }

  /**
   * The states that were reported of an event until now, by any device.
   *
   * @param {string} id
   * @returns {Promise<string[]>} such as `displayed`
   */
  receipts(id) {
    return new Promise((resolve, reject) => {
      const states = [];
      const call = this.#client.watchReceipts({ events: { eventIds: [id] } }, this.#metadata);
      call.on("error", (cause) => (cause.code === grpc.status.CANCELLED ? undefined : reject(cause)));
      call.on("data", ({ receipts, snapshot }) => {
        for (const { state } of receipts) states.push(state.replace("RECEIPT_STATE_", "").toLowerCase());
        if (!snapshot || receipts.length === 1_000) return;
        call.cancel();
        resolve(states);
      });
    });
  }
}
