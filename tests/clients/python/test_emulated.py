"""What the proxy makes of texts: typed answers, calls of functions, several choices, for the Python SDK's helpers."""

import json
import unittest

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from proxy import ask, client, events, frames, posts, posts_of, prompt, strictly, user
from pydantic import BaseModel, TypeAdapter

ORDERS = {
    "name": "orders",
    "description": "How many orders a region has.",
    "parameters": {
        "type": "object",
        "properties": {"region": {"type": "string"}},
        "required": ["region"],
        "additionalProperties": False,
    },
}
CHAT_TOOL = {"type": "function", "function": ORDERS}
RESPONSES_TOOL = {"type": "function", "strict": True, **ORDERS}


class Sale(BaseModel):
    region: str
    orders: int


NORTH = Sale(region="North", orders=3)


class TypedChat(unittest.TestCase):
    def parsed(self, words):
        request = ask(words)
        completion = client().chat.completions.parse(**request, response_format=Sale)
        return request, completion.choices[0].message

    def test_json_is_found_bare_in_a_fence_and_in_prose(self):
        for words in ("bare sale", "fenced sale", "told sale"):
            with self.subTest(words):
                request, message = self.parsed(words)

                self.assertEqual(message.parsed, NORTH)
                self.assertEqual(json.loads(message.content), NORTH.model_dump())
                (post,) = posts(request)
                self.assertIn("Answer format:", post["message"])

    def test_what_is_wrong_is_mended_on_a_thread_of_its_own(self):
        request, message = self.parsed("mistyped")

        self.assertEqual(message.parsed, NORTH)
        history = [*request["messages"], {"role": "assistant", "content": message.content}]
        again = {"model": "chaturdata", "messages": [*history, user(prompt("plain"))]}
        client().chat.completions.create(**again)
        self.assertEqual(posts(again)[0]["thread_id"], posts(request)[0]["thread_id"])

    def test_what_cannot_be_mended_is_an_honest_error(self):
        format = {"type": "json_schema", "json_schema": {"name": "Sale", "schema": Sale.model_json_schema()}}
        request = ask("hopeless", response_format=format)

        with self.assertRaises(openai.InternalServerError) as raised:
            client(max_retries=2).chat.completions.create(**request)

        refusal = raised.exception
        self.assertEqual((refusal.status_code, refusal.code), (502, "structured_output_failed"))
        self.assertEqual(refusal.response.headers["x-should-retry"], "false")
        self.assertIn("orders", refusal.body["message"])

    def test_any_object_will_do_where_no_schema_is_given(self):
        raw = client().chat.completions.with_raw_response.create(
            **ask("fenced sale", response_format={"type": "json_object"})
        )

        completion = strictly(ChatCompletion, raw.content)
        self.assertEqual(json.loads(completion.choices[0].message.content), NORTH.model_dump())
        self.assertEqual(raw.headers["x-emulated"], "json")

    def test_a_stream_is_valid_as_a_whole(self):
        with client().chat.completions.stream(**ask("told sale"), response_format=Sale) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            completion = stream.get_final_completion()

        self.assertEqual(json.loads(text), NORTH.model_dump())
        self.assertEqual(completion.choices[0].message.parsed, NORTH)

    def test_a_schema_that_is_none_is_a_bad_request(self):
        schema = {"name": "sale", "schema": {"type": "object", "properties": {"orders": {"type": "whole"}}}}
        request = ask("bare sale", response_format={"type": "json_schema", "json_schema": schema})

        with self.assertRaises(openai.BadRequestError) as raised:
            client().chat.completions.create(**request)

        self.assertTrue(raised.exception.param.startswith("response_format"), raised.exception.param)
        self.assertEqual(posts(request), [])

    def test_turns_go_on_after_a_typed_answer(self):
        messages, threads = [], set()
        for _ in range(3):
            messages.append(user(prompt("fenced sale")))
            completion = client().chat.completions.parse(model="chaturdata", messages=messages, response_format=Sale)
            messages.append({"role": "assistant", "content": completion.choices[0].message.content})
            threads |= {post["thread_id"] for post in posts_of(messages[-2]["content"])}

        self.assertEqual(len(threads), 1)


class TypedResponses(unittest.TestCase):
    def test_a_typed_answer_is_parsed(self):
        response = client().responses.parse(model="chaturdata", input=prompt("told sale"), text_format=Sale)

        self.assertEqual(response.output_parsed, NORTH)
        self.assertEqual(json.loads(response.output_text), NORTH.model_dump())

    def test_a_typed_stream_is_parsed(self):
        with client().responses.stream(model="chaturdata", input=prompt("fenced sale"), text_format=Sale) as stream:
            list(stream)
            response = stream.get_final_response()

        self.assertEqual(response.output_parsed, NORTH)

    def test_any_object_will_do_where_no_schema_is_given(self):
        raw = client().responses.with_raw_response.create(
            model="chaturdata", input=prompt("told sale"), text={"format": {"type": "json_object"}}
        )

        response = Response.model_validate_json(raw.content, strict=True, extra="forbid")
        self.assertEqual(json.loads(response.output_text), NORTH.model_dump())
        self.assertEqual(raw.headers["x-emulated"], "json")


class ChatTools(unittest.TestCase):
    def test_a_loop_is_completed_on_one_thread(self):
        messages = [user(prompt("call orders"))]
        first = client().chat.completions.create(model="chaturdata", messages=messages, tools=[CHAT_TOOL])
        (choice,) = first.choices
        (call,) = choice.message.tool_calls
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "3"}]

        raw = client().chat.completions.with_raw_response.create(
            model="chaturdata", messages=messages, tools=[CHAT_TOOL]
        )

        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual((call.function.name, json.loads(call.function.arguments)), ("orders", {"region": "North"}))
        self.assertEqual(raw.parse().choices[0].message.content, "There are 3 orders in the North.")
        self.assertEqual(raw.headers["x-conversation-decision"], "appended")
        self.assertEqual(raw.headers["x-emulated"], "tools")

    def test_calls_are_parallel_and_fit_the_sdks_own_model_strictly(self):
        raw = client().chat.completions.with_raw_response.create(**ask("call orders twice", tools=[CHAT_TOOL]))

        completion = strictly(ChatCompletion, raw.content)
        calls = completion.choices[0].message.tool_calls
        self.assertEqual([json.loads(call.function.arguments)["region"] for call in calls], ["North", "South"])
        self.assertEqual(len({call.id for call in calls}), 2)

    def test_an_answer_that_does_not_call_is_text(self):
        completion = client().chat.completions.create(**ask("plain", tools=[CHAT_TOOL]))

        self.assertEqual(completion.choices[0].message.content, "A plain answer.")
        self.assertIsNone(completion.choices[0].message.tool_calls)

    def test_none_is_to_be_called(self):
        request = ask("plain", tools=[CHAT_TOOL], tool_choice="none")

        client().chat.completions.create(**request)

        self.assertNotIn("Tools:", posts(request)[0]["message"])

    def test_a_call_is_forced(self):
        named = {"type": "function", "function": {"name": "orders"}}
        for choice in ("required", named):
            with self.subTest(choice):
                completion = client().chat.completions.create(
                    **ask("call orders", tools=[CHAT_TOOL], tool_choice=choice)
                )

                self.assertEqual(completion.choices[0].message.tool_calls[0].function.name, "orders")

    def test_arguments_that_are_wrong_are_mended(self):
        completion = client().chat.completions.create(**ask("miscalled", tools=[CHAT_TOOL]))

        (call,) = completion.choices[0].message.tool_calls
        self.assertEqual(json.loads(call.function.arguments), {"region": "North"})

    def test_a_call_that_does_not_come_is_an_honest_error(self):
        request = ask("plain", tools=[CHAT_TOOL], tool_choice="required")

        with self.assertRaises(openai.InternalServerError) as raised:
            client().chat.completions.create(**request)

        self.assertEqual(raised.exception.code, "structured_output_failed")

    def test_calls_are_streamed(self):
        with client().chat.completions.with_streaming_response.create(
            **ask("call orders twice", tools=[CHAT_TOOL], stream=True)
        ) as response:
            *chunks, last = list(frames(response))
        with client().chat.completions.stream(**ask("call orders twice"), tools=[CHAT_TOOL]) as stream:
            list(stream)
            message = stream.get_final_completion().choices[0].message

        self.assertEqual(last, "[DONE]")
        for chunk in chunks:
            strictly(ChatCompletionChunk, chunk)
        self.assertEqual([call.function.arguments for call in message.tool_calls][0].replace(" ", ""), '{"region":"North"}')
        self.assertEqual(len(message.tool_calls), 2)

    def test_a_model_as_a_tool_is_parsed(self):
        completion = client().chat.completions.parse(
            **ask("call Sale"), tools=[openai.pydantic_function_tool(Sale)], tool_choice="required"
        )

        self.assertEqual(completion.choices[0].message.tool_calls[0].function.parsed_arguments, NORTH)


class ResponsesTools(unittest.TestCase):
    def check_call(self, response):
        (call,) = response.output
        self.assertEqual((call.type, call.name), ("function_call", "orders"))
        self.assertEqual(json.loads(call.arguments), {"region": "North"})
        return call

    def test_a_loop_is_completed_by_the_response_before(self):
        text = prompt("call orders")
        first = client().responses.create(model="chaturdata", input=text, tools=[RESPONSES_TOOL])
        call = self.check_call(first)

        output = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
        second = client().responses.with_raw_response.create(
            model="chaturdata", input=[output], previous_response_id=first.id, tools=[RESPONSES_TOOL]
        )

        self.assertEqual(second.parse().output_text, "There are 3 orders in the North.")
        self.assertEqual(second.headers["x-conversation-decision"], "appended")
        self.assertEqual(second.headers["x-emulated"], "tools")

    def test_a_loop_is_completed_by_resent_items(self):
        items = [user(prompt("call orders"))]
        first = client().responses.create(model="chaturdata", input=items, tools=[RESPONSES_TOOL])
        call = self.check_call(first)
        items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "3"}]

        second = client().responses.with_raw_response.create(
            model="chaturdata", input=items, tools=[RESPONSES_TOOL]
        )

        self.assertEqual(second.parse().output_text, "There are 3 orders in the North.")
        self.assertEqual(second.headers["x-conversation-decision"], "appended")

    def test_a_call_is_streamed_and_fits_the_sdks_own_models_strictly(self):
        streaming = client().responses.with_streaming_response
        with streaming.create(
            model="chaturdata", input=prompt("call orders"), tools=[RESPONSES_TOOL], stream=True
        ) as response:
            told = [
                TypeAdapter(ResponseStreamEvent).validate_json(data, strict=True) for _, data in events(response)
            ]

        names = [event.type for event in told]
        self.assertIn("response.function_call_arguments.delta", names)
        self.assertIn("response.function_call_arguments.done", names)
        self.check_call(told[-1].response)


class Choices(unittest.TestCase):
    def test_three_choices_come_from_three_threads(self):
        request = ask("plain", n=3)

        completion = client().chat.completions.create(**request)

        self.assertEqual([choice.index for choice in completion.choices], [0, 1, 2])
        self.assertEqual({choice.message.content for choice in completion.choices}, {"A plain answer."})
        self.assertEqual(len({post["thread_id"] for post in posts(request)}), 3)

    def test_choices_are_streamed_by_index(self):
        texts = ["", ""]
        ends = [None, None]
        for chunk in client().chat.completions.create(**ask("growing", n=2, stream=True)):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ends[choice.index] = choice.finish_reason

        self.assertEqual(texts, ["One, two, three, four."] * 2)
        self.assertEqual(ends, ["stop", "stop"])

    def test_too_many_choices_are_a_bad_request(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            client().chat.completions.create(**ask("plain", n=9))

        self.assertEqual(raised.exception.param, "n")


if __name__ == "__main__":
    unittest.main()
