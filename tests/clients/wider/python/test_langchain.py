"""LangChain in front of the proxy."""

import unittest

import openai
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt
from pydantic import BaseModel


class Sale(BaseModel):
    """A region and its orders."""

    region: str
    orders: int


NORTH = Sale(region="North", orders=3)


@tool
def orders(region: str) -> int:
    """How many orders a region has."""
    return 3


def model(**options):
    return ChatOpenAI(
        **{"base_url": PROXY, "api_key": KEY, "model": "chaturdata", "max_retries": 0, "timeout": 20, **options}
    )


class Answers(unittest.TestCase):
    def test_a_question_is_answered(self):
        answer = model(temperature=0).invoke([SystemMessage("Be brief."), HumanMessage(prompt("plain"))])

        self.assertEqual(answer.content, "A plain answer.")
        self.assertGreater(answer.usage_metadata["total_tokens"], 0)

    def test_a_stream_is_the_answer(self):
        for options in ({}, {"use_responses_api": True}):
            with self.subTest(options):
                chunks = list(model(**options).stream(prompt("growing")))

                self.assertEqual("".join(chunk.text for chunk in chunks), "One, two, three, four.")

    def test_a_legacy_prompt_is_answered(self):
        legacy = OpenAI(base_url=PROXY, api_key=KEY, model="chaturdata", max_retries=0)

        self.assertEqual(legacy.invoke(prompt("plain")), "A plain answer.")

    def three_turns(self, **options):
        messages, texts = [], [prompt("plain") for _ in range(3)]
        for text in texts:
            messages.append(HumanMessage(text))
            messages.append(model(**options).invoke(messages))

        found = [post for text in texts for post in posts_of(text)]
        self.assertEqual([post["message"] for post in found], texts)
        self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_three_turns_go_to_one_thread(self):
        self.three_turns()

    def test_three_turns_of_responses_go_to_one_thread(self):
        self.three_turns(use_responses_api=True)

    def test_three_turns_by_the_response_before_go_to_one_thread(self):
        self.three_turns(use_responses_api=True, use_previous_response_id=True)


class Typed(unittest.TestCase):
    def test_every_method_gives_a_typed_answer(self):
        for method, words in {"json_schema": "fenced sale", "function_calling": "call Sale", "json_mode": "told sale"}.items():
            with self.subTest(method):
                typed = model().with_structured_output(Sale, method=method)

                self.assertEqual(typed.invoke(prompt(words)), NORTH)

    def test_responses_give_a_typed_answer(self):
        typed = model(use_responses_api=True).with_structured_output(Sale)

        self.assertEqual(typed.invoke(prompt("told sale")), NORTH)

    def test_a_typed_stream_ends_in_the_answer(self):
        *_, last = model().with_structured_output(Sale).stream(prompt("fenced sale"))

        self.assertEqual(last, NORTH)


class Tools(unittest.TestCase):
    def looped(self, **options):
        caller, messages = model(**options).bind_tools([orders]), [HumanMessage(prompt("call orders"))]
        asked = caller.invoke(messages)
        messages.append(asked)
        messages += [orders.invoke(call) for call in asked.tool_calls]

        self.assertEqual([call["args"] for call in asked.tool_calls], [{"region": "North"}])
        self.assertEqual(caller.invoke(messages).text, "There are 3 orders in the North.")

    def test_a_loop_is_completed(self):
        self.looped()

    def test_a_loop_of_responses_is_completed(self):
        self.looped(use_responses_api=True)

    def test_an_agent_completes_its_loop(self):
        agent = create_agent(model(), [orders], system_prompt="Use the tools.")

        told = agent.invoke({"messages": [HumanMessage(prompt("call orders twice"))]})

        self.assertEqual(told["messages"][-1].content, "There are 3 orders in the North.")
        self.assertEqual([message.type for message in told["messages"]], ["human", "ai", "tool", "tool", "ai"])

    def test_an_agent_gives_a_typed_answer(self):
        agent = create_agent(model(), [orders], response_format=Sale)

        told = agent.invoke({"messages": [HumanMessage(prompt("call Sale"))]})

        self.assertEqual(told["structured_response"], NORTH)


class Errors(unittest.TestCase):
    def test_errors_have_the_sdks_classes(self):
        wrong = model(api_key=WRONG_KEY)
        for error, caller, words in (
            (openai.AuthenticationError, wrong, "plain"),
            (openai.RateLimitError, model(), "limited"),
            (openai.InternalServerError, model(), "failing"),
            (openai.BadRequestError, model(logprobs=True), "plain"),
        ):
            with self.subTest(error.__name__), self.assertRaises(error):
                caller.invoke(prompt(words))

    def test_what_cannot_be_typed_is_an_error(self):
        with self.assertRaises(openai.InternalServerError) as raised:
            model().with_structured_output(Sale).invoke(prompt("hopeless"))

        self.assertEqual(raised.exception.code, "structured_output_failed")


if __name__ == "__main__":
    unittest.main()
