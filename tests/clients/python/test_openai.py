"""The Python SDK in front of the proxy: what its users see, and every body against the SDK's own models."""

import asyncio
import json
import time
import unittest
import uuid

import openai
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from proxy import KEY, PAUSE, PROXY, WRONG_KEY, ask, client, frames, posts, prompt, strictly, user


class Answer(unittest.TestCase):
    def test_a_question_is_answered(self):
        request = ask("plain")

        completion = client().chat.completions.create(**request)

        self.assertEqual(completion.choices[0].message.content, "A plain answer.")
        self.assertEqual(completion.choices[0].finish_reason, "stop")
        self.assertEqual(completion.model, "chaturdata")
        self.assertGreater(completion.usage.total_tokens, 0)
        self.assertEqual(len(posts(request)), 1)

    def test_an_answer_fits_the_sdks_own_model_strictly(self):
        raw = client().chat.completions.with_raw_response.create(**ask("plain"))

        strictly(ChatCompletion, raw.content)

    def test_an_answer_names_its_request_and_its_conversation(self):
        raw = client().chat.completions.with_raw_response.create(**ask("plain"))

        self.assertTrue(raw.headers["x-request-id"])
        self.assertEqual(raw.parse()._request_id, raw.headers["x-request-id"])
        self.assertTrue(raw.headers["x-conversation-id"].startswith("conv_"))
        self.assertEqual(raw.headers["x-conversation-decision"], "created")

    def test_content_may_come_as_parts(self):
        text = prompt("plain")
        message = {"role": "user", "content": [{"type": "text", "text": text}]}

        completion = client().chat.completions.create(model="chaturdata", messages=[message])

        self.assertEqual(completion.choices[0].message.content, "A plain answer.")

    def test_a_completion_that_reaches_max_tokens_ends_with_length(self):
        completion = client().chat.completions.create(**ask("growing", max_tokens=2))

        self.assertEqual(completion.choices[0].finish_reason, "length")

    def test_models_are_listed_and_found_by_name(self):
        listed = client().models.with_raw_response.list()
        names = [model.id for model in listed.parse().data]
        found = client().models.with_raw_response.retrieve(names[0])

        self.assertEqual(json.loads(listed.content)["object"], "list")
        for model in json.loads(listed.content)["data"]:
            strictly(Model, json.dumps(model))
        self.assertEqual(strictly(Model, found.content).id, names[0])

    def test_many_callers_at_once_get_threads_of_their_own(self):
        requests = [ask("plain") for _ in range(16)]

        async def all_at_once():
            async with openai.AsyncOpenAI(base_url=PROXY, api_key=KEY, max_retries=0, timeout=30) as caller:
                await asyncio.gather(*(caller.chat.completions.create(**request) for request in requests))

        asyncio.run(all_at_once())

        self.assertEqual(len({posts(request)[0]["thread_id"] for request in requests}), 16)


class Stream(unittest.TestCase):
    def test_the_deltas_are_the_answer(self):
        chunks = list(client().chat.completions.create(**ask("growing", stream=True)))

        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertEqual(text, "One, two, three, four.")
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
        self.assertEqual(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)

    def test_usage_comes_last_where_it_is_asked_for(self):
        request = ask("growing", stream=True, stream_options={"include_usage": True})

        chunks = list(client().chat.completions.create(**request))

        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))

    def test_every_chunk_fits_the_sdks_own_model_strictly(self):
        request = ask("growing", stream=True, stream_options={"include_usage": True})

        with client().chat.completions.with_streaming_response.create(**request) as response:
            *chunks, last = frames(response)

        self.assertEqual(last, "[DONE]")
        for chunk in chunks:
            strictly(ChatCompletionChunk, chunk)

    def test_the_async_client_streams(self):
        async def text():
            async with openai.AsyncOpenAI(base_url=PROXY, api_key=KEY, max_retries=0, timeout=20) as caller:
                stream = await caller.chat.completions.create(**ask("growing", stream=True))
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        self.assertEqual(asyncio.run(text()), "One, two, three, four.")

    def test_the_stream_helper_gathers_the_completion(self):
        with client().chat.completions.stream(**ask("growing")) as stream:
            completion = stream.get_final_completion()

        self.assertEqual(completion.choices[0].message.content, "One, two, three, four.")

    def test_a_run_that_fails_raises_within_the_stream(self):
        stream = client().chat.completions.create(**ask("failing", stream=True))

        with self.assertRaises(openai.APIError) as raised:
            list(stream)

        self.assertEqual(raised.exception.code, "run_failed")


class Conversation(unittest.TestCase):
    def test_three_turns_are_appended_to_one_thread(self):
        messages, decisions, threads = [], [], []
        for _ in range(3):
            messages.append(user(prompt("plain")))
            request = {"model": "chaturdata", "messages": messages}
            raw = client().chat.completions.with_raw_response.create(**request)
            messages.append({"role": "assistant", "content": raw.parse().choices[0].message.content})
            decisions.append(raw.headers["x-conversation-decision"])
            (post,) = posts({"messages": messages[:-1]})
            threads.append(post["thread_id"])
            self.assertEqual(post["message"], messages[-2]["content"])

        self.assertEqual(decisions, ["created", "appended", "appended"])
        self.assertEqual(len(set(threads)), 1)

    def test_a_named_conversation_takes_new_messages_alone(self):
        caller = client(default_headers={"X-Conversation-Id": uuid.uuid4().hex})
        first, second = ask("plain"), ask("plain")

        caller.chat.completions.create(**first)
        caller.chat.completions.create(**second)

        self.assertEqual(posts(first)[0]["thread_id"], posts(second)[0]["thread_id"])

    def test_an_edited_turn_goes_to_a_thread_of_its_own(self):
        first = ask("plain")
        said = client().chat.completions.create(**first).choices[0].message.content
        history = [*first["messages"], {"role": "assistant", "content": said}]

        decisions = []
        for _ in range(2):
            request = {"model": "chaturdata", "messages": [*history, user(prompt("plain"))]}
            raw = client().chat.completions.with_raw_response.create(**request)
            decisions.append(raw.headers["x-conversation-decision"])

        self.assertEqual(decisions, ["appended", "forked"])


class Errors(unittest.TestCase):
    def refused(self, error, request, **options):
        with self.assertRaises(error) as raised:
            client(**options).chat.completions.create(**request)
        refusal = raised.exception
        body = json.loads(refusal.response.content)
        self.assertEqual(list(body), ["error"])
        self.assertEqual(set(body["error"]), {"message", "type", "param", "code"})
        strictly(ErrorObject, json.dumps(body["error"]))
        self.assertEqual(refusal.request_id, refusal.response.headers["x-request-id"])
        return refusal

    def test_a_wrong_key_is_an_authentication_error(self):
        refusal = self.refused(openai.AuthenticationError, ask("plain"), api_key=WRONG_KEY)

        self.assertEqual(refusal.code, "invalid_api_key")
        self.assertTrue(refusal.body["message"].startswith("Incorrect API key provided"))
        self.assertNotIn(WRONG_KEY, str(refusal))

    def test_what_cannot_be_done_is_a_bad_request_that_names_the_parameter(self):
        for param, value in {"logprobs": True, "modalities": ["audio"]}.items():
            with self.subTest(param):
                request = ask("plain", **{param: value})
                refusal = self.refused(openai.BadRequestError, request)

                self.assertEqual((refusal.code, refusal.param), ("unsupported_parameter", param))
                self.assertEqual(posts(request), [])

    def test_an_unknown_route_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            client().get("/nowhere", cast_to=object)

        self.assertEqual(raised.exception.code, "unknown_route")

    def test_too_many_requests_is_a_rate_limit_error_that_says_when(self):
        refusal = self.refused(openai.RateLimitError, ask("limited"))

        self.assertEqual(refusal.code, "rate_limit_exceeded")
        self.assertGreater(float(refusal.response.headers["retry-after"]), 0)

    def test_a_failed_run_is_a_server_error_in_the_upstreams_words_and_not_retried(self):
        request = ask("failing")

        refusal = self.refused(openai.InternalServerError, request, max_retries=2)

        self.assertEqual((refusal.status_code, refusal.code), (502, "run_failed"))
        self.assertIn("the query broke", refusal.body["message"])
        self.assertEqual(refusal.response.headers["x-should-retry"], "false")
        self.assertEqual(len(posts(request)), 1)


class Retry(unittest.TestCase):
    """A run takes three seconds; callers with less patience come again until they have its answer."""

    def test_patience_that_is_named_is_answered_before_it_ends_and_the_retry_attaches(self):
        request = ask("slow")

        completion = client(timeout=2, max_retries=5).chat.completions.create(**request)

        self.assertEqual(completion.choices[0].message.content, "A slow answer.")
        self.assertEqual(len(posts(request)), 1)

    def test_a_retry_after_a_timeout_attaches(self):
        request = ask("slow")

        completion = client(timeout=1, max_retries=5).chat.completions.create(**request)

        self.assertEqual(completion.choices[0].message.content, "A slow answer.")
        self.assertEqual(len(posts(request)), 1)

    def test_asked_again_after_giving_up_the_run_is_found(self):
        request = ask("slow")
        with self.assertRaises(openai.APITimeoutError):
            client(timeout=1).chat.completions.create(**request)
        time.sleep(PAUSE)

        raw = client().chat.completions.with_raw_response.create(**request)

        self.assertEqual(raw.headers["x-conversation-decision"], "attached")
        self.assertEqual(raw.parse().choices[0].message.content, "A slow answer.")
        self.assertEqual(len(posts(request)), 1)


if __name__ == "__main__":
    unittest.main()
