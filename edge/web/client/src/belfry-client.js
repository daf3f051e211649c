// Everything that a program imports from the package.

export { getDashboardWebSocket, startDashboard } from "./dashboard.js";
export { defineElements } from "./elements.js";
export { DOCUMENT_STATUS, PDF_STATUS, WS_MESSAGE_TYPES } from "./event-types.js";
export { Jobs } from "./jobs.js";
export { showToast, ToastNotificationSystem } from "./toast-notifications.js";
export { DashboardWebSocketClient } from "./websocket-client.js";
