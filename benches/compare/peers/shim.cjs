// OpenAI's chat completions before the upstream: node's own server and undici.
const http = require("node:http");
const { randomUUID } = require("node:crypto");
const { setTimeout: pause } = require("node:timers/promises");
const { Agent, request: fetched } = require("undici");

const UPSTREAM = process.env.UPSTREAM_URL;
const INTERVAL = 1000 * Number(process.env.INTERVAL ?? "3");

const dispatcher = new Agent({ keepAliveTimeout: 4000 });
const threads = new Map();

async function called(url, options) {
  const { statusCode, body } = await fetched(url, { dispatcher, ...options });
  if (statusCode !== 200) {
    throw new Error(`${statusCode}: ${await body.text()}`);
  }
  return body.json();
}

async function answer(asked, headers) {
  const conversation = headers["x-conversation-id"];
  const authorization = { authorization: headers.authorization };
  const { thread_id } = await called(`${UPSTREAM}/api/newMessage`, {
    method: "POST",
    headers: { "content-type": "application/json", ...authorization },
    body: JSON.stringify({ message: asked.messages.at(-1).content, thread_id: threads.get(conversation) }),
  });
  if (conversation) {
    threads.set(conversation, thread_id);
  }
  for (;;) {
    const url = `${UPSTREAM}/api/getThread?threadId=${encodeURIComponent(thread_id)}`;
    const { messages, run_status } = await called(url, { headers: authorization });
    if (run_status.status === "completed") {
      return messages.findLast((message) => message.role === "assistant").content[0].text.value;
    }
    if (["failed", "cancelled", "expired"].includes(run_status.status)) {
      throw new Error(run_status.status);
    }
    await pause(INTERVAL);
  }
}

async function create(request, response) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const asked = JSON.parse(Buffer.concat(chunks).toString());
  const content = await answer(asked, request.headers);
  const body = JSON.stringify({
    id: `chatcmpl-${randomUUID()}`,
    object: "chat.completion",
    created: Math.floor(Date.now() / 1000),
    model: asked.model,
    choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
  });
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}

const server = http.createServer((request, response) => {
  create(request, response).catch((error) => {
    response.writeHead(502, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: String(error) } }));
  });
});
// A caller may wait for long.
server.requestTimeout = 0;
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 8192 });
