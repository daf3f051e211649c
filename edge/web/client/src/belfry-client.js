// Everything that a program imports from the package.

export { ToastNotifications } from "./toast-notifications.js";
export { DashboardWebSocketClient } from "./websocket-client.js";
