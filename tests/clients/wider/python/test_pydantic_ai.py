"""pydantic-ai in front of the proxy."""

import asyncio
import unittest

from openai import AsyncOpenAI
from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

MODELS = (OpenAIChatModel, OpenAIResponsesModel)


class Sale(BaseModel):
    region: str
    orders: int


NORTH = Sale(region="North", orders=3)


def orders(region: str) -> int:
    """How many orders a region has."""
    return 3


def stock(region: str) -> int:
    """How much of a region is in stock."""
    return 3


def agent(kind=OpenAIChatModel, key=KEY, **options):
    caller = AsyncOpenAI(base_url=PROXY, api_key=key, max_retries=0, timeout=20)
    return Agent(kind("chaturdata", provider=OpenAIProvider(openai_client=caller)), **options)


class Answers(unittest.TestCase):
    def test_three_turns_go_to_one_thread(self):
        for kind in MODELS:
            with self.subTest(kind.__name__):
                history, texts = None, [prompt("plain") for _ in range(3)]
                for text in texts:
                    told = agent(kind).run_sync(text, message_history=history)
                    history = told.all_messages()
                    self.assertEqual(told.output, "A plain answer.")

                found = [post for text in texts for post in posts_of(text)]
                self.assertEqual([post["message"] for post in found], texts)
                self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_a_stream_is_the_answer(self):
        async def streamed(kind):
            async with agent(kind).run_stream(prompt("growing")) as told:
                return "".join([text async for text in told.stream_text(delta=True)])

        for kind in MODELS:
            with self.subTest(kind.__name__):
                self.assertEqual(asyncio.run(streamed(kind)), "One, two, three, four.")


class Typed(unittest.TestCase):
    def test_every_kind_of_output_is_typed(self):
        for kind in MODELS:
            for output, words in (
                (ToolOutput(Sale), "call final_result"),
                (NativeOutput(Sale), "fenced sale"),
                (PromptedOutput(Sale), "told sale"),
            ):
                with self.subTest((kind.__name__, type(output).__name__)):
                    told = agent(kind, output_type=output).run_sync(prompt(words))

                    self.assertEqual(told.output, NORTH)

    def test_the_default_output_is_typed(self):
        self.assertEqual(agent(output_type=Sale).run_sync(prompt("call final_result")).output, NORTH)

    def test_text_may_stand_in_for_a_type(self):
        self.assertEqual(agent(output_type=[Sale, str]).run_sync(prompt("plain")).output, "A plain answer.")


class Tools(unittest.TestCase):
    def test_a_loop_is_completed(self):
        for kind in MODELS:
            with self.subTest(kind.__name__):
                told = agent(kind, tools=[orders]).run_sync(prompt("call orders"))

                self.assertEqual(told.output, "There are 3 orders in the North.")

    def test_a_loop_ends_in_a_typed_answer(self):
        told = agent(tools=[stock], output_type=Sale).run_sync(prompt("call stock"))

        self.assertEqual(told.output, NORTH)

    def test_a_loop_ends_in_a_native_typed_answer(self):
        told = agent(tools=[stock], output_type=NativeOutput(Sale)).run_sync(prompt("bare sale"))

        self.assertEqual(told.output, NORTH)


class Errors(unittest.TestCase):
    def refused(self, status, words, **options):
        with self.assertRaises(ModelHTTPError) as raised:
            agent(**options).run_sync(prompt(words))
        self.assertEqual(raised.exception.status_code, status)
        return raised.exception.body["code"]

    def test_errors_tell_their_status(self):
        self.assertEqual(self.refused(401, "plain", key=WRONG_KEY), "invalid_api_key")
        self.assertEqual(self.refused(429, "limited"), "rate_limit_exceeded")
        self.assertEqual(self.refused(502, "failing"), "run_failed")
        self.assertEqual(self.refused(502, "hopeless", output_type=NativeOutput(Sale)), "structured_output_failed")


if __name__ == "__main__":
    unittest.main()
