// Web pages in a real browser: none of another origin causes a post or reads an answer, unless its origin is listed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch, pages, Program, serving, unguarded } from "./rig.js";

const HELD = { CHATURDATA_API_KEY: "sk-held", CHATURDATA_PROXY_ALLOW_ANYONE: "true" };
const PACE = { CHATURDATA_PROXY_PACE__INTERVAL: "50ms", CHATURDATA_PROXY_PACE__MIN_GAP: "30ms" };

let browser, sandbox, proxy, listing, page, open;

before(async () => {
  browser = await launch();
  page = await pages();
  sandbox = await Program.start(["sandbox", "--script", fileURLToPath(new URL("script.toml", import.meta.url))]);
  const upstream = ["--upstream-url", `http://127.0.0.1:${sandbox.port}`];
  // It holds the key and asks nobody for one: whatever reaches it posts.
  proxy = await Program.start(upstream, { ...HELD, ...PACE });
  const listed = { CHATURDATA_PROXY_SERVER__ALLOWED_ORIGINS: `http://friend.test:${page.port}` };
  listing = await Program.start(upstream, { ...HELD, ...PACE, ...listed });
  open = await unguarded(proxy.port);
});

after(async () => {
  await browser?.close();
  page?.stop();
  open?.stop();
  const codes = [await listing?.stop(), await proxy?.stop(), await sandbox?.stop()];
  assert.deepEqual(codes, [0, 0, 0]);
});

const posts = async () => (await fetch(`http://127.0.0.1:${sandbox.port}/sandbox/posts`)).json();

// What is posted while this is done.
async function posted(act) {
  const earlier = (await posts()).length;
  const result = await act();
  return { result, posted: (await posts()).length - earlier };
}

async function at(url, act, ...args) {
  const tab = await browser.newPage();
  try {
    await tab.goto(url);
    return await tab.evaluate(act, ...args);
  } finally {
    await tab.close();
  }
}

// Everything that a page can try without asking first; runs in the page.
async function attack(base) {
  const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "Revenue by region?" }] });
  const chat = `${base}/v1/chat/completions`;
  const read = {};
  const tried = async (name, ask) => {
    read[name] = await ask().then((text) => text || "nothing", () => "nothing");
  };
  const text = (promise) => promise.then((answer) => answer.text());
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
    for (const mode of ["no-cors", "cors"]) {
      const headers = { "content-type": type };
      await tried(`${mode} ${type}`, () => text(fetch(chat, { method: "POST", mode, body, headers })));
    }
  }
  await tried("cors without a type", () => text(fetch(chat, { method: "POST", body: new Blob([body]) })));
  await tried("credentials", () => text(fetch(chat, { method: "POST", body, credentials: "include" })));
  await tried("get", () => text(fetch(`${base}/v1/models`)));
  await tried("metrics", () => text(fetch(`${base}/metrics`)));
  for (const type of ["text/plain", "application/json"]) {
    await tried(`beacon ${type}`, async () => void navigator.sendBeacon(chat, new Blob([body], { type })));
  }
  await tried("form", async () => {
    const frame = document.createElement("iframe");
    frame.name = "sink";
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", action: chat, enctype: "text/plain", target: "sink" });
    const field = document.createElement("input");
    field.name = body.slice(0, -1) + ',"x":"';
    field.value = '"}';
    form.append(field);
    document.body.append(form);
    const loaded = new Promise((done) => frame.addEventListener("load", done, { once: true }));
    form.submit();
    await Promise.race([loaded, new Promise((done) => setTimeout(done, 2000))]);
    return frame.contentDocument?.body?.innerText;
  });
  for (const [name, path] of Object.entries({ script: "/v1/models", img: "/v1/models", iframe: "/v1/models" })) {
    await tried(`<${name}>`, async () => {
      const element = document.createElement(name);
      const loaded = new Promise((done) => (element.onload = element.onerror = done));
      element.src = base + path;
      document.body.append(element);
      await Promise.race([loaded, new Promise((done) => setTimeout(done, 2000))]);
      return element.contentDocument?.body?.innerText;
    });
  }
  await tried("web socket", () =>
    new Promise((done, failed) => {
      const socket = new WebSocket(chat.replace("http", "ws"));
      socket.onopen = () => done("open");
      socket.onerror = failed;
    }),
  );
  // What went out without an answer has time to arrive.
  await new Promise((done) => setTimeout(done, 1000));
  return read;
}

const readings = (read) => Object.entries(read).filter(([, text]) => text !== "nothing");

test("a page of another origin causes no post and reads nothing", async () => {
  const names = ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "localhost", "127.0.0.1"];
  for (const name of names) {
    const origin = `http://${name}:${page.port}/`;
    const { result, posted: count } = await posted(() => at(origin, attack, `http://127.0.0.1:${proxy.port}`));

    assert.equal(count, 0, `${origin} caused a post`);
    assert.deepEqual(readings(result), [], origin);
  }
});

test("an origin that is listed lets in no other", async () => {
  const { result, posted: count } = await posted(() =>
    at(`http://evil.test:${page.port}/`, attack, `http://127.0.0.1:${listing.port}`),
  );

  assert.equal(count, 0);
  assert.deepEqual(readings(result), []);
});

test("the same page causes posts where nobody guards", async () => {
  const { posted: count } = await posted(() => at(`http://evil.test:${page.port}/`, attack, `http://127.0.0.1:${open.port}`));

  assert.ok(count > 0, "these checks can fail");
});

// A page that was loaded under a name which has led elsewhere since; its requests are of one origin.
async function rebound(name, port) {
  const tab = await browser.newPage();
  try {
    const origin = `http://${name}:${port}`;
    await tab.route(`${origin}/page`, (route) => route.fulfill({ contentType: "text/html", body: "<title>x</title>" }));
    await tab.goto(`${origin}/page`);
    return await tab.evaluate(async () => {
      const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "Revenue by region?" }] });
      const headers = { "content-type": "application/json" };
      const asked = await fetch("/v1/chat/completions", { method: "POST", body, headers });
      const listed = await fetch("/v1/models");
      return [await asked.text(), await listed.text()];
    });
  } finally {
    await tab.close();
  }
}

test("a name that was bound anew to this machine is refused", async () => {
  for (const name of ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "a.evil.test"]) {
    const { result, posted: count } = await posted(() => rebound(name, proxy.port));

    assert.equal(count, 0, name);
    for (const text of result) assert.match(text, /host_not_allowed/, name);
  }
});

test("the same page reads answers where nobody guards", async () => {
  const { result, posted: count } = await posted(() => rebound("evil.test", open.port));

  assert.equal(count, 1, "these checks can fail");
  assert.match(result[0], /chat\.completion/);
  assert.match(result[1], /"object":"list"/);
});

test("a page shown in the browser under a foreign name is the refusal", async () => {
  const text = await at(`http://evil.test:${proxy.port}/v1/models`, () => document.body.innerText);

  assert.match(text, /host_not_allowed/);
});

test("a page of the proxy's own origin may ask", async () => {
  for (const name of ["localhost", "127.0.0.1"]) {
    const { result, posted: count } = await posted(() => rebound(name, proxy.port));

    assert.equal(count, 1, name);
    assert.match(result[0], /chat\.completion/);
  }
});

test("a listed origin asks, streams and reads our headers", async () => {
  const { result, posted: count } = await posted(() =>
    at(
      `http://friend.test:${page.port}/`,
      async (base) => {
        const ask = async (stream) => {
          const body = JSON.stringify({ model: "m", stream, messages: [{ role: "user", content: `Revenue? ${stream}` }] });
          const headers = { "content-type": "application/json", authorization: "Bearer x", "x-stainless-retry-count": "0" };
          const answer = await fetch(`${base}/v1/chat/completions`, { method: "POST", body, headers });
          return [answer.headers.get("x-conversation-id"), await answer.text()];
        };
        return [await ask(false), await ask(true)];
      },
      `http://127.0.0.1:${listing.port}`,
    ),
  );

  assert.equal(count, 2);
  const [[id, whole], [streamId, frames]] = result;
  assert.match(id, /^conv_/);
  assert.match(streamId, /^conv_/);
  assert.match(whole, /"finish_reason":"stop"/);
  assert.ok(frames.endsWith("data: [DONE]\n\n"));
});

test("a link leads a person to no more than a page can show", async () => {
  const evil = await serving((_, response) =>
    response.writeHead(200, { "content-type": "text/html" }).end(`<a id="a" href="http://127.0.0.1:${proxy.port}/v1/models">x</a>`),
  );
  const tab = await browser.newPage();
  await tab.goto(`http://evil.test:${evil.port}/`);

  const { result, posted: count } = await posted(async () => {
    await Promise.all([tab.waitForNavigation(), tab.click("#a")]);
    return tab.evaluate(() => document.body.innerText);
  });

  assert.equal(count, 0);
  assert.match(result, /"object":"list"/);
  await tab.close();
  evil.stop();
});
