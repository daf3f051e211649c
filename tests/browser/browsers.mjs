// Firefox over WebDriver BiDi and WebKit over WebDriver, behind the few calls that the
// contract's tests need. `null` where a browser is not installed.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import puppeteer from "puppeteer-core";

const FIREFOX = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"];
const WEBKIT_DRIVER = [process.env.WEBKIT_DRIVER, "/usr/bin/WebKitWebDriver"];
const XVFB = "/usr/bin/Xvfb";

/** @param {(string | undefined)[]} paths */
const installed = (paths) => paths.find((path) => path && existsSync(path));

/**
 * @typedef {object} Tab
 * @property {(run: (...args: any[]) => any, ...args: any[]) => Promise<any>} evaluate
 * @property {(url: string) => Promise<void>} goto
 * @property {() => Promise<void>} reload
 * @property {() => Promise<void>} back one page back in the history
 * @property {(width: number, height: number) => Promise<void>} resize
 * @property {() => Promise<void>} close
 */

/** @returns {Promise<{newTab: () => Promise<Tab>, close: () => Promise<void>} | null>} */
export async function firefox() {
  const executablePath = installed(FIREFOX);
  if (!executablePath) return null;
  const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
  const newTab = async () => {
    const page = await browser.newPage();
    return {
      evaluate: (run, ...args) => page.evaluate(run, ...args),
      goto: async (url) => void (await page.goto(url)),
      reload: async () => void (await page.reload()),
      back: async () => void (await page.evaluate(() => history.back())),
      resize: (width, height) => page.setViewport({ width, height }),
      close: () => page.close(),
    };
  };
  return { newTab, close: () => browser.close() };
}

/** A port that is free now. */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A screen that nobody sees, unless there is one. */
function screen() {
  if (process.env.DISPLAY) return Promise.resolve({ display: process.env.DISPLAY, stop: () => {} });
  const xvfb = spawn(XVFB, ["-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp"], { stdio: ["ignore", "ignore", "ignore", "pipe"] });
  return new Promise((resolve, reject) => {
    xvfb.once("error", reject);
    xvfb.stdio[3].once("data", (number) => resolve({ display: `:${String(number).trim()}`, stop: () => xvfb.kill() }));
  });
}

/** @returns {Promise<{newTab: () => Promise<Tab>, close: () => Promise<void>} | null>} */
export async function webkit() {
  const program = installed(WEBKIT_DRIVER);
  if (!program || !(process.env.DISPLAY || existsSync(XVFB))) return null;
  const { display, stop } = await screen();
  const port = await freePort();
  const driver = spawn(program, [`--port=${port}`, "--host=127.0.0.1"], { stdio: "ignore", env: { ...process.env, DISPLAY: display, WEBKIT_DISABLE_COMPOSITING_MODE: "1", LIBGL_ALWAYS_SOFTWARE: "1", WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1" } });
  /** @param {string} method @param {string} path @param {unknown} [body] */
  async function call(method, path, body) {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${path}: ${value.error} ${value.message}`);
    return value;
  }
  for (let tries = 0; tries < 100; tries += 1) {
    if (await call("GET", "/status").catch(() => null)) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { sessionId } = await call("POST", "/session", { capabilities: { alwaysMatch: {} } });
  const session = `/session/${sessionId}`;
  let first = true;
  const newTab = async () => {
    const handle = first ? await call("GET", `${session}/window`) : (await call("POST", `${session}/window/new`, { type: "tab" })).handle;
    first = false;
    /** @param {string} method @param {string} path @param {unknown} [body] */
    const inTab = async (method, path, body) => {
      await call("POST", `${session}/window`, { handle });
      return call(method, `${session}${path}`, body);
    };
    return {
      evaluate: (run, ...args) => inTab("POST", "/execute/sync", { script: `return (${run})(...arguments)`, args }),
      goto: (url) => inTab("POST", "/url", { url }),
      reload: () => inTab("POST", "/refresh", {}),
      back: () => inTab("POST", "/back", {}),
      resize: (width, height) => inTab("POST", "/window/rect", { width, height }),
      close: () => inTab("DELETE", "/window"),
    };
  };
  async function close() {
    await call("DELETE", session).catch(() => {});
    driver.kill();
    stop();
  }
  return { newTab, close };
}
