// The Node SDK for a harness: a request per line in, how it ended per line out.

import { createInterface } from "node:readline";
import OpenAI from "openai";

const clients = new Map();

function client(base, retries, timeout) {
  const name = `${base} ${retries} ${timeout}`;
  if (!clients.has(name)) {
    clients.set(name, new OpenAI({ baseURL: `${base}/v1`, apiKey: "sk-harness", maxRetries: retries, timeout }));
  }
  return clients.get(name);
}

async function asked({ base, retries, timeout, messages, stream }) {
  const request = { model: "chaturdata", messages, stream };
  const { data } = await client(base, retries, timeout).chat.completions.create(request).withResponse();
  if (!stream) return data.choices[0].message.content;
  const text = [];
  for await (const chunk of data) text.push(chunk.choices[0]?.delta.content ?? "");
  return text.join("");
}

function ending(error) {
  if (error instanceof OpenAI.APIError && error.code && !(error instanceof OpenAI.APIConnectionError)) {
    return { code: error.code, message: error.message };
  }
  return { broken: `${error}` };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  asked(request)
    .then((text) => ({ text }), ending)
    .then((end) => process.stdout.write(`${JSON.stringify({ id: request.id, ...end })}\n`));
}
