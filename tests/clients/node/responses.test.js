// The Node SDK's Responses and Conversations in front of the proxy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import OpenAI from "openai";
import { WRONG_KEY, client, posts, postsOf, prompt, refusal, words } from "./proxy.js";

const create = (input, options = {}) => client().responses.create({ model: "chaturdata", input, ...options });

async function ended(id) {
  for (let tries = 0; tries < 150; tries += 1) {
    const response = await client().responses.retrieve(id);
    if (!["queued", "in_progress"].includes(response.status)) return response;
    await pause(100);
  }
  assert.fail(`${id} goes on`);
}

async function onOneThread(texts, decisions) {
  const found = [];
  for (const text of texts) found.push(...(await postsOf(text)));
  assert.deepEqual(decisions, ["created", "appended", "appended"]);
  assert.deepEqual(found.map((post) => post.message), texts);
  assert.equal(new Set(found.map((post) => post.thread_id)).size, 1);
}

const turns = () => [words("plain"), words("plain"), words("plain")];

test("a question is answered", async () => {
  const response = await create(words("plain"));

  assert.equal(response.output_text, "A plain answer.");
  assert.equal(response.status, "completed");
  assert.match(response.id, /^resp_/);
  assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
});

test("three turns by the response before are appended to one thread", async () => {
  const [texts, decisions] = [turns(), []];
  let previous_response_id = null;
  for (const text of texts) {
    const { data, response } = await create(text, { previous_response_id }).withResponse();
    previous_response_id = data.id;
    decisions.push(response.headers.get("x-conversation-decision"));
  }

  await onOneThread(texts, decisions);
});

test("three turns of a conversation are appended to one thread and listed", async () => {
  const conversation = await client().conversations.create({ metadata: { team: "sales" } });
  const [texts, decisions] = [turns(), []];
  for (const text of texts) {
    const { response } = await create(text, { conversation: { id: conversation.id } }).withResponse();
    decisions.push(response.headers.get("x-conversation-decision"));
  }

  await onOneThread(texts, decisions);
  const items = await client().conversations.items.list(conversation.id, { order: "asc" });
  assert.deepEqual(
    items.data.map((item) => item.content[0].text),
    texts.flatMap((text) => [text, "A plain answer."]),
  );
});

test("a conversation is changed, deleted and then unknown", async () => {
  const { id } = await client().conversations.create();
  const changed = await client().conversations.update(id, { metadata: { team: "ops" } });
  const deleted = await client().conversations.delete(id);

  assert.deepEqual(changed.metadata, { team: "ops" });
  assert.deepEqual([deleted.id, deleted.deleted], [id, true]);
  const error = await refusal(client().conversations.retrieve(id), OpenAI.NotFoundError);
  assert.equal(error.code, "conversation_not_found");
});

test("the stream helper gathers the response", async () => {
  const stream = client().responses.stream({ model: "chaturdata", input: words("growing") });
  const deltas = [];
  stream.on("response.output_text.delta", (event) => deltas.push(event.delta));

  assert.equal((await stream.finalResponse()).output_text, "One, two, three, four.");
  assert.equal(deltas.join(""), "One, two, three, four.");
});

test("events are numbered, and are told again from any of them", async () => {
  const told = [];
  for await (const event of await create(words("growing"), { stream: true })) told.push(event);
  const rest = [];
  const again = await client().responses.retrieve(told[0].response.id, { stream: true, starting_after: 3 });
  for await (const event of again) rest.push(event);

  assert.deepEqual(told.map((event) => event.sequence_number), [...told.keys()]);
  assert.equal(rest[0].sequence_number, 4);
  assert.equal(rest.at(-1).response.output[0].content[0].text, "One, two, three, four.");
});

test("a response in the background is polled", async () => {
  const response = await create(words("slow"), { background: true });

  assert.ok(["queued", "in_progress"].includes(response.status));
  assert.equal((await ended(response.id)).output_text, "A slow answer.");
});

test("a response in the background is cancelled", async () => {
  const { id } = await create(words("slow"), { background: true });

  const cancelled = await client().responses.cancel(id);

  assert.equal(cancelled.status, "cancelled");
});

test("a response is found again with its input until it is deleted", async () => {
  const text = words("plain");
  const { id } = await create(text);
  const found = await client().responses.retrieve(id);
  const items = await client().responses.inputItems.list(id);
  await client().responses.delete(id);

  assert.equal(found.output_text, "A plain answer.");
  assert.equal(items.data[0].content[0].text, text);
  const error = await refusal(client().responses.retrieve(id), OpenAI.NotFoundError);
  assert.equal(error.code, "response_not_found");
});

test("errors have their classes", async () => {
  const wrong = client({ apiKey: WRONG_KEY }).responses.create({ model: "chaturdata", input: words("plain") });
  await refusal(wrong, OpenAI.AuthenticationError);
  await refusal(create(words("limited")), OpenAI.RateLimitError);
  await refusal(create(words("plain"), { previous_response_id: "resp_0123456789abcdef" }), OpenAI.NotFoundError);
  await refusal(create(7), OpenAI.BadRequestError);
});

test("a failed run is a server error, and a failed response in the background", async () => {
  const error = await refusal(create(words("failing")), OpenAI.InternalServerError);
  const { id } = await create(words("failing"), { background: true });
  const response = await ended(id);

  assert.deepEqual([error.status, error.code], [502, "run_failed"]);
  assert.deepEqual([response.status, response.error.code], ["failed", "server_error"]);
  assert.match(response.error.message, /the query broke/);
});

test("a conversation goes on from chat to responses", async () => {
  const { id } = await client().conversations.create();
  const request = { model: "chaturdata", messages: [prompt("plain")] };
  await client().chat.completions.create(request, { headers: { "X-Conversation-Id": id } });
  const text = words("plain");
  await create(text, { conversation: id });

  assert.equal((await postsOf(text))[0].thread_id, (await posts(request))[0].thread_id);
});

test("a legacy prompt is answered whole and in a stream", async () => {
  const whole = await client().completions.create({ model: "chaturdata", prompt: words("growing") });
  const text = [];
  const stream = await client().completions.create({ model: "chaturdata", prompt: words("growing"), stream: true });
  for await (const chunk of stream) text.push(chunk.choices[0].text);

  assert.deepEqual([whole.object, whole.choices[0].text], ["text_completion", "One, two, three, four."]);
  assert.equal(text.join(""), "One, two, three, four.");
});
