// Chromium as the tests use it: headless, alone, without the network's noise.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where Chromium is. @returns {string} */
export function executable() {
  const path = PLACES.find((place) => place && existsSync(place));
  if (!path) throw new Error("no Chromium found: install it, or name it in CHROMIUM");
  return path;
}

/**
 * @param {string[]} [more] arguments
 * @param {import("playwright-core").LaunchOptions} [options]
 * @returns {Promise<import("playwright-core").Browser>}
 */
export function launch(more = [], options = {}) {
  return chromium.launch({
    ...options,
    executablePath: executable(),
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...more],
  });
}
