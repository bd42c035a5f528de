// The AI SDK in front of the proxy, by its OpenAI-compatible provider and by OpenAI's own, which speaks Responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { CALLER_KEY, PROXY_URL, WRONG_KEY, postsOf, words } from "../../node/proxy.js";

const baseURL = `${PROXY_URL}/v1`;
const compatible = (apiKey = CALLER_KEY) =>
  createOpenAICompatible({ name: "chaturdata", baseURL, apiKey, supportsStructuredOutputs: true })("chaturdata");
const responses = () => createOpenAI({ baseURL, apiKey: CALLER_KEY })("chaturdata");
const BOTH = [compatible, responses];

const maxRetries = 0;
const schema = z.object({ region: z.string(), orders: z.number().int() });
const NORTH = { region: "North", orders: 3 };

const orders = (calls) =>
  tool({
    description: "How many orders a region has.",
    inputSchema: z.object({ region: z.string() }),
    execute: async (input) => {
      calls.push(input);
      return { orders: 3 };
    },
  });

test("a question is answered", async () => {
  for (const model of BOTH) {
    const { text, finishReason } = await generateText({ model: model(), prompt: words("plain"), maxRetries });

    assert.deepEqual([text, finishReason], ["A plain answer.", "stop"]);
  }
});

test("a stream is the answer", async () => {
  for (const model of BOTH) {
    const { textStream } = streamText({ model: model(), prompt: words("growing"), maxRetries });
    const text = [];
    for await (const delta of textStream) text.push(delta);

    assert.equal(text.join(""), "One, two, three, four.");
  }
});

test("three turns go to one thread", async () => {
  for (const model of BOTH) {
    const texts = [words("plain"), words("plain"), words("plain")];
    const messages = [];
    const found = [];
    for (const content of texts) {
      messages.push({ role: "user", content });
      const { response } = await generateText({ model: model(), messages, maxRetries });
      messages.push(...response.messages);
      found.push(...(await postsOf(content)));
    }

    assert.deepEqual(found.map((post) => post.message), texts);
    assert.equal(new Set(found.map((post) => post.thread_id)).size, 1);
  }
});

test("an object is generated", async () => {
  for (const model of BOTH) {
    const { object } = await generateObject({ model: model(), schema, prompt: words("told sale"), maxRetries });

    assert.deepEqual(object, NORTH);
  }
});

test("an object is generated where the provider asks for any", async () => {
  const model = createOpenAICompatible({ name: "chaturdata", baseURL, apiKey: CALLER_KEY })("chaturdata");

  const { object } = await generateObject({ model, schema, prompt: words("fenced sale"), maxRetries });

  assert.deepEqual(object, NORTH);
});

test("an object is streamed", async () => {
  const { partialObjectStream } = streamObject({ model: compatible(), schema, prompt: words("bare sale"), maxRetries });
  let last;
  for await (const object of partialObjectStream) last = object;

  assert.deepEqual(last, NORTH);
});

test("a loop of tools is completed", async () => {
  for (const model of BOTH) {
    const calls = [];
    const tools = { orders: orders(calls) };
    const stopWhen = stepCountIs(5);

    const { text } = await generateText({ model: model(), prompt: words("call orders"), tools, stopWhen, maxRetries });

    assert.equal(text, "There are 3 orders in the North.");
    assert.deepEqual(calls, [{ region: "North" }]);
  }
});

test("a loop of tools is completed in streams", async () => {
  for (const model of BOTH) {
    const calls = [];
    const tools = { orders: orders(calls) };
    const streamed = streamText({ model: model(), prompt: words("call orders twice"), tools, stopWhen: stepCountIs(5), maxRetries });

    assert.equal(await streamed.text, "There are 3 orders in the North.");
    assert.deepEqual(calls, [{ region: "North" }, { region: "South" }]);
  }
});

test("errors tell their status", async () => {
  const refused = async (prompt, apiKey) => {
    try {
      await generateText({ model: compatible(apiKey), prompt: words(prompt), maxRetries });
    } catch (error) {
      assert.ok(APICallError.isInstance(error), `${error}`);
      return [error.statusCode, error.message];
    }
    return assert.fail("no error was raised");
  };

  const [status, message] = await refused("plain", WRONG_KEY);
  assert.equal(status, 401);
  assert.match(message, /^Incorrect API key provided/);
  assert.equal((await refused("limited"))[0], 429);
  assert.match((await refused("failing"))[1], /the query broke/);
});
