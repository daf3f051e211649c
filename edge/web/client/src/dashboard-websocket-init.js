// The third script tag: starts the dashboard of the page that it is in.

import { getDashboardWebSocket, startDashboard } from "./dashboard.js";
import { defineElements } from "./elements.js";
import { publish } from "./registry.js";

defineElements();
publish({ getDashboardWebSocket });
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => startDashboard(), { once: true });
else startDashboard();
