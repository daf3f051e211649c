// What a program may write against the package's types: must compile.

import { DashboardWebSocketClient, DOCUMENT_STATUS, Jobs, showToast, ToastNotificationSystem, WS_MESSAGE_TYPES } from "../../../edge/web/client/dist/belfry-client";

const client = new DashboardWebSocketClient({ url: "wss://edge/ws", token: async () => "t", toasts: true, heartbeatInterval: 30_000 });
client.on("image_processed", ({ documentId, signedUrl, width = 0 }) => console.log(documentId.length, signedUrl?.length, width + 1));
client.on(WS_MESSAGE_TYPES.PDF_GENERATED, ({ reportId, pages }) => console.log(reportId, pages));
client.on("*", (event) => {
  if (event.type === "job_progress") console.log(event.percent + 1);
  if (event.type === "image_processed" && event.status === DOCUMENT_STATUS.COMPLETED) console.log(event.documentId);
});
client.on("disconnected", ({ retryInMs }) => console.log(retryInMs));
new ToastNotificationSystem({ duration: 3_000 }).show("title", "message", "success", 1_000);
showToast("title", "message", "warning");

const jobs = new Jobs();
client.on("*", (event) => void (jobs.take(event) && console.log(jobs.get(event.jobId)?.phase)));
