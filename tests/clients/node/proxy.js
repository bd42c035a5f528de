// How the suites reach the proxy, and what its upstream had of them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

export const { PROXY_URL, SANDBOX_URL, CALLER_KEY, WRONG_KEY } = process.env;

// A person who asks again comes later than the proxy can learn of the hang-up.
export const AGAIN_AFTER = 300;

export const client = (options = {}) =>
  new OpenAI({ baseURL: `${PROXY_URL}/v1`, apiKey: CALLER_KEY, maxRetries: 0, timeout: 20_000, ...options });

// The words steer the sandbox's script; the mark tells this prompt from every other.
export const words = (text) => `${text} ${randomUUID()}`;
export const prompt = (text) => ({ role: "user", content: words(text) });
export const ask = (text, options = {}) => ({ model: "chaturdata", messages: [prompt(text)], ...options });

// What the upstream accepted of this request's last message.
export const posts = (request) => postsOf(request.messages.at(-1).content);

// What the upstream accepted with a prompt's mark in it, in order.
export async function postsOf(text) {
  const mark = text.split(" ").at(-1);
  const answer = await fetch(`${SANDBOX_URL}/sandbox/posts`);
  return (await answer.json()).filter((post) => post.message.includes(mark));
}

export async function refusal(promise, kind) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    return error;
  }
  assert.fail("no error was raised");
}
