// What the browser tests stand on: the programs, pages of other origins, and a way in without a guard.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Not every browser has these checks, so nothing may rest on them.
  "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
  "--host-resolver-rules=MAP *.test 127.0.0.1",
];

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: FLAGS });

export async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

// A program of ours on a port of its own.
export class Program {
  static async start(args, environment = {}) {
    const program = new Program();
    program.port = await freePort();
    program.state = await mkdtemp(join(tmpdir(), "browser-"));
    const common = ["--listen", `127.0.0.1:${program.port}`, "--state-dir", program.state];
    program.child = spawn(process.env.PROXY_BINARY, [...args, ...common], { env: environment, stdio: "ignore" });
    program.ended = new Promise((done) => program.child.on("exit", done));
    for (let tries = 0; tries < 500; tries += 1) {
      const answer = await fetch(`http://127.0.0.1:${program.port}/livez`).catch(() => null);
      if (answer) return program;
      await pause(20);
    }
    throw new Error(`${args.join(" ")} does not listen`);
  }

  async stop() {
    this.child.kill();
    const code = await this.ended;
    await rm(this.state, { recursive: true, force: true });
    return code;
  }
}

// Serves on a port of its own until the tests end.
export function serving(listener) {
  return new Promise((done) => {
    const server = http.createServer(listener);
    server.listen(0, "127.0.0.1", () => done({ port: server.address().port, stop: () => server.closeAllConnections() ?? server.close() }));
  });
}

// An empty page.
export const pages = () =>
  serving((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<title>a page</title>"));

// A way in that looks at nothing, as a proxy without a guard would: whatever comes is passed on as if a program had sent it.
export const unguarded = (port) =>
  serving(async (request, response) => {
    const body = [];
    for await (const chunk of request) body.push(chunk);
    const { method, url: path } = request;
    const headers = { host: "localhost", "content-type": "application/json" };
    const inner = http.request({ host: "127.0.0.1", port, method, path, headers }, async (answer) => {
      const text = [];
      for await (const chunk of answer) text.push(chunk);
      response.writeHead(answer.statusCode, { "content-type": "application/json" }).end(Buffer.concat(text));
    });
    inner.end(Buffer.concat(body));
  });
