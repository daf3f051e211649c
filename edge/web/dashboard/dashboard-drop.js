// Pictures from the disk: chosen, dropped, or the samples.
//
// Promise: a drop beside the zone never replaces the page.

import { byId } from "./dashboard-elements.js";
import { MAX_FILES } from "./dashboard-upload.js";

/**
 * @param {import("./dashboard-addresses.js").Addresses} addresses
 * @param {Pick<import("../client/src/toast-notifications.js").ToastNotificationSystem, "info" | "error">} toasts
 * @param {(file: File, documentType: string) => void} upload
 */
export function takeFiles(addresses, toasts, upload) {
  /** @param {File[]} files */
  const send = (files) => {
    if (files.length > MAX_FILES) toasts.info(`Only the first ${MAX_FILES} of ${files.length} files are sent.`, "Too many at once");
    const documentType = byId("document-type").value;
    for (const file of files.slice(0, MAX_FILES)) upload(file, documentType);
  };
  const zone = byId("drop-zone");
  // A drop beside the zone would replace the page by the picture.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
  const input = byId("file");
  input.addEventListener("change", () => {
    send([...input.files]);
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
    send([...(event.dataTransfer?.files ?? [])]);
  });
  byId("sample").addEventListener("click", async () => {
    const picture = await fetch(addresses.beside("/web/sample.jpg")).catch(() => null);
    if (!picture?.ok) return toasts.error("The sample picture could not be loaded.");
    send([new File([await picture.blob()], "sample.jpg", { type: "image/jpeg" })]);
  });
  byId("broken").addEventListener("click", () => {
    send([new File(["This is not a picture."], "broken.jpg", { type: "image/jpeg" })]);
  });
}
