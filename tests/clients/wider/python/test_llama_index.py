"""LlamaIndex' OpenAILike in front of the proxy."""

import unittest

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt
from pydantic import BaseModel


class Sale(BaseModel):
    """A region and its orders."""

    region: str
    orders: int


NORTH = Sale(region="North", orders=3)


def orders(region: str) -> int:
    """How many orders a region has."""
    return 3


TOOL = FunctionTool.from_defaults(orders)


def model(**options):
    defaults = {"model": "chaturdata", "api_base": PROXY, "api_key": KEY, "max_retries": 0, "is_chat_model": True}
    return OpenAILike(**{**defaults, **options})


class Answers(unittest.TestCase):
    def test_three_turns_go_to_one_thread(self):
        messages, texts = [], [prompt("plain") for _ in range(3)]
        for text in texts:
            messages.append(ChatMessage(role="user", content=text))
            messages.append(model().chat(messages).message)

        self.assertEqual(messages[-1].content, "A plain answer.")
        found = [post for text in texts for post in posts_of(text)]
        self.assertEqual([post["message"] for post in found], texts)
        self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_a_stream_is_the_answer(self):
        deltas = model().stream_chat([ChatMessage(role="user", content=prompt("growing"))])

        self.assertEqual("".join(told.delta or "" for told in deltas), "One, two, three, four.")

    def test_a_model_that_is_no_chat_model_completes(self):
        legacy = model(is_chat_model=False)

        self.assertEqual(legacy.complete(prompt("plain")).text, "A plain answer.")
        self.assertEqual([told.text for told in legacy.stream_complete(prompt("growing"))][-1], "One, two, three, four.")


class Typed(unittest.TestCase):
    def test_an_answer_is_typed_by_a_call_by_a_schema_and_by_words(self):
        for options, words in (
            ({"is_function_calling_model": True}, "call Sale"),
            ({"should_use_structured_outputs": True}, "fenced sale"),
            ({}, "told sale"),
        ):
            with self.subTest(options):
                typed = model(**options).as_structured_llm(Sale)

                self.assertEqual(typed.complete(prompt(words)).raw, NORTH)


class Tools(unittest.TestCase):
    def test_a_loop_is_completed(self):
        caller, text = model(is_function_calling_model=True), prompt("call orders")
        first = caller.chat_with_tools([TOOL], user_msg=text)
        history = [ChatMessage(role="user", content=text), first.message]
        for call in caller.get_tool_calls_from_response(first):
            result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": call.tool_id})
            history.append(result)

        told = caller.chat_with_tools([TOOL], chat_history=history)

        self.assertEqual([message.role for message in history], ["user", "assistant", "tool"])
        self.assertEqual(told.message.content, "There are 3 orders in the North.")


class Errors(unittest.TestCase):
    def test_errors_have_the_sdks_classes(self):
        for error, words, options in (
            (openai.AuthenticationError, "plain", {"api_key": WRONG_KEY}),
            (openai.BadRequestError, "plain", {"additional_kwargs": {"logprobs": True}}),
        ):
            with self.subTest(error.__name__), self.assertRaises(error):
                model(**options).complete(prompt(words))


if __name__ == "__main__":
    unittest.main()
