// What the proxy makes of texts: typed answers, calls of functions, several choices, for the Node SDK's helpers.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ask, client, posts, postsOf, prompt, refusal, words } from "./proxy.js";

const Sale = z.object({ region: z.string(), orders: z.number().int() });
const NORTH = { region: "North", orders: 3 };
const typed = (text) => ask(text, { response_format: zodResponseFormat(Sale, "sale") });

// A tool that notes what it was called with.
function noted(calls) {
  const run = (args) => {
    calls.push(args);
    return { orders: 3 };
  };
  const parameters = { type: "object", properties: { region: { type: "string" } }, required: ["region"] };
  const about = { name: "orders", description: "How many orders a region has.", parameters };
  return { type: "function", function: { ...about, parse: JSON.parse, function: run } };
}

test("a typed answer is parsed, whatever it came in", async () => {
  for (const text of ["bare sale", "fenced sale", "told sale", "mistyped"]) {
    const completion = await client().chat.completions.parse(typed(text));

    assert.deepEqual(completion.choices[0].message.parsed, NORTH, text);
  }
});

test("a typed stream is parsed", async () => {
  const stream = client().chat.completions.stream(typed("told sale"));

  const completion = await stream.finalChatCompletion();

  assert.deepEqual(completion.choices[0].message.parsed, NORTH);
});

test("what cannot be mended is an honest error", async () => {
  const error = await refusal(client({ maxRetries: 2 }).chat.completions.parse(typed("hopeless")), OpenAI.InternalServerError);

  assert.deepEqual([error.status, error.code], [502, "structured_output_failed"]);
  assert.equal(error.headers.get("x-should-retry"), "false");
});

test("a typed response is parsed", async () => {
  const text = { format: zodTextFormat(Sale, "sale") };

  const response = await client().responses.parse({ model: "chaturdata", input: words("fenced sale"), text });

  assert.deepEqual(response.output_parsed, NORTH);
});

test("the runner completes a loop on one thread", async () => {
  const calls = [];
  const message = prompt("call orders");
  const runner = client().chat.completions.runTools({ model: "chaturdata", messages: [message], tools: [noted(calls)] });

  assert.equal(await runner.finalContent(), "There are 3 orders in the North.");
  assert.deepEqual(calls, [{ region: "North" }]);
  const [post] = await postsOf(message.content);
  assert.match(post.message, /\nTools:/);
});

test("the runner completes a loop of streams", async () => {
  const calls = [];
  const request = ask("call orders twice", { stream: true, tools: [noted(calls)] });

  const runner = client().chat.completions.runTools(request);

  assert.equal(await runner.finalContent(), "There are 3 orders in the North.");
  assert.deepEqual(calls, [{ region: "North" }, { region: "South" }]);
});

test("a schema as a tool is parsed", async () => {
  const tools = [zodFunction({ name: "Sale", parameters: Sale })];

  const completion = await client().chat.completions.parse(ask("call Sale", { tools, tool_choice: "required" }));

  assert.deepEqual(completion.choices[0].message.tool_calls[0].function.parsed_arguments, NORTH);
});

test("a loop of responses is completed by items", async () => {
  const { name, description, parameters } = noted([]).function;
  const tools = [{ type: "function", name, description, parameters, strict: false }];
  const input = [prompt("call orders")];
  const first = await client().responses.create({ model: "chaturdata", input, tools });
  const [call] = first.output;
  input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: "3" });

  const { data, response } = await client().responses.create({ model: "chaturdata", input, tools }).withResponse();

  assert.deepEqual([call.type, call.name, JSON.parse(call.arguments)], ["function_call", "orders", { region: "North" }]);
  assert.equal(data.output_text, "There are 3 orders in the North.");
  assert.equal(response.headers.get("x-emulated"), "tools");
  assert.equal(response.headers.get("x-conversation-decision"), "appended");
});

test("three choices come from three threads", async () => {
  const request = ask("plain", { n: 3 });

  const completion = await client().chat.completions.create(request);

  assert.deepEqual(completion.choices.map((choice) => choice.index), [0, 1, 2]);
  assert.equal(new Set((await posts(request)).map((post) => post.thread_id)).size, 3);
});
