// LangChain for Node in front of the proxy.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HumanMessage, SystemMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI } from "@langchain/openai";
import { createAgent } from "langchain";
import { z } from "zod";
import { CALLER_KEY, PROXY_URL, WRONG_KEY, postsOf, words } from "../../node/proxy.js";

const reach = { apiKey: CALLER_KEY, maxRetries: 0, timeout: 20_000, configuration: { baseURL: `${PROXY_URL}/v1` } };
const model = (options = {}) => new ChatOpenAI({ model: "chaturdata", ...reach, ...options });

const Sale = z.object({ region: z.string(), orders: z.number().int() }).describe("A region and its orders.");
const NORTH = { region: "North", orders: 3 };
const BOTH = [{}, { useResponsesApi: true }];

const orders = tool(async () => "3", {
  name: "orders",
  description: "How many orders a region has.",
  schema: z.object({ region: z.string() }),
});

test("a question is answered", async () => {
  const answer = await model({ temperature: 0 }).invoke([new SystemMessage("Be brief."), new HumanMessage(words("plain"))]);

  assert.equal(answer.text, "A plain answer.");
  assert.ok(answer.usage_metadata.total_tokens > 0);
});

test("a stream is the answer", async () => {
  for (const options of BOTH) {
    const text = [];
    for await (const chunk of await model(options).stream(words("growing"))) text.push(chunk.text);

    assert.equal(text.join(""), "One, two, three, four.");
  }
});

test("a legacy prompt is answered", async () => {
  const legacy = new OpenAI({ model: "chaturdata", ...reach });

  assert.equal(await legacy.invoke(words("plain")), "A plain answer.");
});

test("three turns go to one thread", async () => {
  for (const options of BOTH) {
    const texts = [words("plain"), words("plain"), words("plain")];
    const messages = [];
    const found = [];
    for (const text of texts) {
      messages.push(new HumanMessage(text));
      messages.push(await model(options).invoke(messages));
      found.push(...(await postsOf(text)));
    }

    assert.deepEqual(found.map((post) => post.message), texts);
    assert.equal(new Set(found.map((post) => post.thread_id)).size, 1);
  }
});

test("every method gives a typed answer", async () => {
  for (const [method, text] of Object.entries({ jsonSchema: "fenced sale", functionCalling: "call Sale", jsonMode: "told sale" })) {
    const typed = model().withStructuredOutput(Sale, { name: "Sale", method });

    assert.deepEqual(await typed.invoke(words(text)), NORTH, method);
  }
});

test("responses give a typed answer", async () => {
  const typed = model({ useResponsesApi: true }).withStructuredOutput(Sale, { name: "Sale" });

  assert.deepEqual(await typed.invoke(words("told sale")), NORTH);
});

test("a loop of tools is completed", async () => {
  for (const options of BOTH) {
    const caller = model(options).bindTools([orders]);
    const messages = [new HumanMessage(words("call orders"))];
    const asked = await caller.invoke(messages);
    messages.push(asked);
    for (const call of asked.tool_calls) messages.push(await orders.invoke(call));

    assert.deepEqual(asked.tool_calls.map((call) => call.args), [{ region: "North" }]);
    assert.equal((await caller.invoke(messages)).text, "There are 3 orders in the North.");
  }
});

test("an agent completes its loop", async () => {
  const agent = createAgent({ model: model(), tools: [orders], systemPrompt: "Use the tools." });

  const told = await agent.invoke({ messages: [new HumanMessage(words("call orders twice"))] });

  assert.equal(told.messages.at(-1).text, "There are 3 orders in the North.");
  assert.equal(told.messages.length, 5);
});

test("errors tell their status", async () => {
  const refused = async (text, options) => {
    try {
      await model(options).invoke(words(text));
    } catch (error) {
      return [error.status, error.code];
    }
    return assert.fail("no error was raised");
  };

  assert.deepEqual(await refused("plain", { apiKey: WRONG_KEY }), [401, "invalid_api_key"]);
  assert.deepEqual(await refused("limited"), [429, "rate_limit_exceeded"]);
  assert.deepEqual(await refused("failing"), [502, "run_failed"]);
  assert.deepEqual(await refused("plain", { logprobs: true }), [400, "unsupported_parameter"]);
});
