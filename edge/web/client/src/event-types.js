// Printed by generate.mjs from edge/PROTOCOL.md; do not edit.

/** The type of every event. */
export const WS_MESSAGE_TYPES = /** @type {const} */ ({
  IMAGE_PROCESSING_STARTED: "image_processing_started",
  IMAGE_PROCESSED: "image_processed",
  IMAGE_PROCESSING_FAILED: "image_processing_failed",
  PDF_GENERATION_STARTED: "pdf_generation_started",
  PDF_GENERATED: "pdf_generated",
  PDF_GENERATION_FAILED: "pdf_generation_failed",
  TRANSCRIPTION_STARTED: "transcription_started",
  TRANSCRIPTION_COMPLETE: "transcription_complete",
  TRANSCRIPTION_FAILED: "transcription_failed",
  JOB_PROGRESS: "job_progress",
  STATUS_UPDATE: "status_update",
  CUSTOM: "custom",
});

/** The statuses of a picture. */
export const DOCUMENT_STATUS = /** @type {const} */ ({
  PENDING: "pending",
  COMPLETED: "completed",
  FAILED: "failed",
});

/** The statuses of a report. */
export const PDF_STATUS = /** @type {const} */ ({
  PENDING: "pending",
  COMPLETED: "completed",
  FAILED: "failed",
});
