// Each of these is a mistake that the types must refuse; tsc fails if one is accepted.

import { DashboardWebSocketClient, showToast } from "../../../edge/web/client/dist/belfry-client";

// @ts-expect-error no token
const client = new DashboardWebSocketClient({ url: "wss://edge/ws" });
// @ts-expect-error no such event
client.on("image_procesed", () => {});
// @ts-expect-error no such field
client.on("image_processed", ({ documentID }) => console.log(documentID));
// @ts-expect-error a field of another event
client.on("pdf_generated", ({ documentId }) => console.log(documentId));
// @ts-expect-error a number
client.on("job_progress", ({ percent }) => percent.toUpperCase());
// @ts-expect-error no such kind
showToast("title", "message", "sucess");
