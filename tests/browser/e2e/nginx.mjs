// A real nginx in front of a test's servers: TLS with a certificate of its own, and a
// path prefix.

import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./page.mjs";

/** @returns {Promise<number>} a port that is free now */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * @param {string} locations the `location` blocks of the server
 * @param {number} [port]
 */
export async function startNginx(locations, port) {
  const dir = await mkdtemp(join(tmpdir(), "belfry-nginx-"));
  const listen = port ?? (await freePort());
  const key = ["-newkey", "rsa:2048", "-nodes", "-keyout", join(dir, "key.pem")];
  const certificate = ["-x509", "-days", "2", "-subj", "/CN=app.example.test", "-out", join(dir, "cert.pem")];
  execFileSync("openssl", ["req", ...key, ...certificate], { stdio: "ignore" });
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) => `${what}_temp_path ${dir}/${what};`).join(" ");
  await writeFile(
    join(dir, "nginx.conf"),
    `daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log; events {}
http {
  access_log off; ${paths}
  map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
  server {
    listen 127.0.0.1:${listen} ssl;
    ssl_certificate ${dir}/cert.pem; ssl_certificate_key ${dir}/key.pem;
    ${locations}
  }
}`,
  );
  const nginx = spawn("nginx", ["-c", join(dir, "nginx.conf"), "-p", dir], { stdio: "ignore" });
  const connects = () => fetch(`https://127.0.0.1:${listen}/`).then(() => true, ({ cause }) => cause?.code !== "ECONNREFUSED");
  await until(connects, "nginx");
  return {
    port: listen,
    async stop() {
      const ended = new Promise((resolve) => nginx.once("exit", resolve));
      nginx.kill("SIGKILL");
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}
