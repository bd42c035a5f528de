"""litellm in front of the proxy."""

import json
import unittest

import litellm
from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt, user
from pydantic import BaseModel

litellm.suppress_debug_info = True

TOOL = {
    "type": "function",
    "function": {
        "name": "orders",
        "description": "How many orders a region has.",
        "parameters": {"type": "object", "properties": {"region": {"type": "string"}}, "required": ["region"]},
    },
}


class Sale(BaseModel):
    region: str
    orders: int


def call(function, model="openai/chaturdata", **options):
    return function(**{"model": model, "api_base": PROXY, "api_key": KEY, "max_retries": 0, "timeout": 20, **options})


def complete(messages, **options):
    return call(litellm.completion, messages=messages, **options)


class Answers(unittest.TestCase):
    def test_three_turns_go_to_one_thread(self):
        messages, texts = [], [prompt("plain") for _ in range(3)]
        for text in texts:
            messages.append(user(text))
            messages.append(complete(messages).choices[0].message)

        self.assertEqual(messages[-1].content, "A plain answer.")
        found = [post for text in texts for post in posts_of(text)]
        self.assertEqual([post["message"] for post in found], texts)
        self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_a_stream_is_the_answer(self):
        chunks = list(complete([user(prompt("growing"))], stream=True))

        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "One, two, three, four.")

    def test_a_legacy_prompt_is_answered(self):
        told = call(litellm.text_completion, model="text-completion-openai/chaturdata", prompt=prompt("plain"))

        self.assertEqual(told.choices[0].text, "A plain answer.")

    def test_three_choices_are_answered(self):
        self.assertEqual(len(complete([user(prompt("plain"))], n=3).choices), 3)

    def test_a_response_is_answered(self):
        told = call(litellm.responses, input=prompt("plain"))

        self.assertEqual(told.output[0].content[0].text, "A plain answer.")


class Typed(unittest.TestCase):
    def test_a_model_and_an_object_are_answered_in_json(self):
        for format in (Sale, {"type": "json_object"}):
            with self.subTest(format):
                told = complete([user(prompt("told sale"))], response_format=format)

                self.assertEqual(json.loads(told.choices[0].message.content), {"region": "North", "orders": 3})


class Tools(unittest.TestCase):
    def test_a_loop_is_completed(self):
        messages = [user(prompt("call orders"))]
        message = complete(messages, tools=[TOOL], tool_choice="auto").choices[0].message
        messages.append(message)
        for asked in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": asked.id, "name": "orders", "content": "3"})

        told = complete(messages, tools=[TOOL])

        self.assertEqual(json.loads(message.tool_calls[0].function.arguments), {"region": "North"})
        self.assertEqual(told.choices[0].message.content, "There are 3 orders in the North.")


class Errors(unittest.TestCase):
    def test_errors_have_their_classes(self):
        for error, words, options in (
            (litellm.AuthenticationError, "plain", {"api_key": WRONG_KEY}),
            (litellm.RateLimitError, "limited", {}),
            (litellm.BadGatewayError, "failing", {}),
            (litellm.BadRequestError, "plain", {"logprobs": True}),
        ):
            with self.subTest(error.__name__), self.assertRaises(error):
                complete([user(prompt(words))], **options)


if __name__ == "__main__":
    unittest.main()
