// The Node SDK in front of the proxy: what its users see, and the shape of every body.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import OpenAI from "openai";
import { AGAIN_AFTER, WRONG_KEY, ask, client, posts, prompt, refusal } from "./proxy.js";

function checkUsage(usage) {
  assert.deepEqual(Object.keys(usage).slice(0, 3), ["prompt_tokens", "completion_tokens", "total_tokens"]);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.ok(Number.isInteger(usage.total_tokens));
}

test("a question is answered", async () => {
  const request = ask("plain");

  const completion = await client().chat.completions.create(request);

  assert.equal(completion.choices[0].message.content, "A plain answer.");
  assert.equal(completion.choices[0].finish_reason, "stop");
  assert.ok(completion._request_id);
  assert.equal((await posts(request)).length, 1);
});

test("an answer has every key that the API promises, and its conversation in the head", async () => {
  const response = await client().chat.completions.create(ask("plain")).asResponse();
  const body = await response.json();

  assert.match(response.headers.get("content-type"), /^application\/json/);
  assert.match(response.headers.get("x-conversation-id"), /^conv_/);
  assert.equal(response.headers.get("x-conversation-decision"), "created");
  assert.match(body.id, /^chatcmpl-/);
  assert.equal(body.object, "chat.completion");
  assert.ok(Number.isInteger(body.created));
  assert.deepEqual(body.choices, [
    {
      index: 0,
      message: { role: "assistant", content: "A plain answer.", refusal: null, ...annotations(body.choices[0].message) },
      logprobs: null,
      finish_reason: "stop",
    },
  ]);
  checkUsage(body.usage);
});

// Optional in the API; an array where it is there.
function annotations(message) {
  if (!("annotations" in message)) return {};
  assert.ok(Array.isArray(message.annotations));
  return { annotations: message.annotations };
}

test("a stream's deltas are the answer, and its usage comes last", async () => {
  const stream = await client().chat.completions.create(
    ask("growing", { stream: true, stream_options: { include_usage: true } }),
  );
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);

  const usage = chunks.pop();
  assert.deepEqual(usage.choices, []);
  checkUsage(usage.usage);
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "One, two, three, four.");
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  for (const chunk of [...chunks, usage]) {
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.deepEqual([chunk.id, chunk.created, chunk.model], [usage.id, usage.created, usage.model]);
  }
});

test("the stream helper gathers the content", async () => {
  const stream = client().chat.completions.stream(ask("growing"));

  assert.equal(await stream.finalContent(), "One, two, three, four.");
  assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, "stop");
});

test("a run that fails raises within the stream", async () => {
  const stream = await client().chat.completions.create(ask("failing", { stream: true }));

  const error = await refusal(drained(stream), OpenAI.APIError);

  assert.equal(error.code, "run_failed");
});

async function drained(stream) {
  for await (const _ of stream);
}

test("three turns are appended to one thread", async () => {
  const messages = [];
  const decisions = [];
  const threads = new Set();
  for (let turn = 0; turn < 3; turn += 1) {
    messages.push(prompt("plain"));
    const { data, response } = await client().chat.completions.create({ model: "chaturdata", messages }).withResponse();
    const [post] = await posts({ messages });
    assert.equal(post.message, messages.at(-1).content);
    threads.add(post.thread_id);
    decisions.push(response.headers.get("x-conversation-decision"));
    messages.push(data.choices[0].message);
  }

  assert.deepEqual(decisions, ["created", "appended", "appended"]);
  assert.equal(threads.size, 1);
});

test("models are listed and found by name", async () => {
  const listed = await client().models.list();
  const found = await client().models.retrieve(listed.data[0].id);

  assert.equal(listed.object, "list");
  assert.equal(found.object, "model");
  assert.equal(found.id, listed.data[0].id);
  assert.ok(Number.isInteger(found.created));
  assert.equal(typeof found.owned_by, "string");
});

test("a wrong key is an authentication error", async () => {
  const error = await refusal(
    client({ apiKey: WRONG_KEY }).chat.completions.create(ask("plain")),
    OpenAI.AuthenticationError,
  );

  assert.equal(error.code, "invalid_api_key");
  assert.ok(error.requestID);
  assert.ok(!error.message.includes(WRONG_KEY));
});

test("what cannot be done is a bad request that names the parameter", async () => {
  for (const [param, value] of Object.entries({ logprobs: true, modalities: ["audio"] })) {
    const request = ask("plain", { [param]: value });
    const error = await refusal(client().chat.completions.create(request), OpenAI.BadRequestError);

    assert.deepEqual([error.type, error.code, error.param], ["invalid_request_error", "unsupported_parameter", param]);
    assert.deepEqual(await posts(request), []);
  }
});

test("an unknown route is not found", async () => {
  const error = await refusal(client().get("/nowhere"), OpenAI.NotFoundError);

  assert.equal(error.code, "unknown_route");
});

test("too many requests is a rate limit error that says when", async () => {
  const error = await refusal(client().chat.completions.create(ask("limited")), OpenAI.RateLimitError);

  assert.equal(error.code, "rate_limit_exceeded");
  assert.ok(Number(error.headers.get("retry-after")) > 0);
});

test("a failed run is a server error in the upstream's words and not retried", async () => {
  const request = ask("failing");

  const error = await refusal(client({ maxRetries: 2 }).chat.completions.create(request), OpenAI.InternalServerError);

  assert.deepEqual([error.status, error.code], [502, "run_failed"]);
  assert.match(error.message, /the query broke/);
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal((await posts(request)).length, 1);
});

test("a retry after a timeout attaches", async () => {
  const request = ask("slow");

  const completion = await client({ timeout: 1_000, maxRetries: 5 }).chat.completions.create(request);

  assert.equal(completion.choices[0].message.content, "A slow answer.");
  assert.equal((await posts(request)).length, 1);
});

test("asked again after a hang-up, the run is found", async () => {
  const request = ask("slow");
  const hangUp = new AbortController();
  setTimeout(() => hangUp.abort(), 1_000);
  await refusal(client().chat.completions.create(request, { signal: hangUp.signal }), OpenAI.APIUserAbortError);
  await pause(AGAIN_AFTER);

  const { data, response } = await client().chat.completions.create(request).withResponse();

  assert.equal(response.headers.get("x-conversation-decision"), "attached");
  assert.equal(data.choices[0].message.content, "A slow answer.");
  assert.equal((await posts(request)).length, 1);
});

test("a stream that was left is found by the next request", async () => {
  const request = ask("slow", { stream: true });
  const left = await client().chat.completions.create(request);
  for await (const _ of left) break;
  await pause(AGAIN_AFTER);

  const stream = await client().chat.completions.create(request);
  const text = [];
  for await (const chunk of stream) text.push(chunk.choices[0].delta.content ?? "");

  assert.equal(text.join(""), "A slow answer.");
  assert.equal((await posts(request)).length, 1);
});
