"""instructor in front of the proxy, in its modes."""

import unittest
from collections.abc import Iterable

import instructor
import openai
from instructor import Mode
from instructor.core import InstructorRetryException
from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt, user
from pydantic import BaseModel, field_validator


class Sale(BaseModel):
    region: str
    orders: int


class Shouted(BaseModel):
    region: str
    orders: int

    @field_validator("region")
    @classmethod
    def is_shouted(cls, region):
        if region != region.upper():
            raise ValueError("the region must be in capitals")
        return region


# To be called for by its name.
Loud = type("Sale", (Shouted,), {})
NORTH = {"region": "North", "orders": 3}
WORDS = {
    Mode.TOOLS: "call Sale",
    Mode.TOOLS_STRICT: "call Sale",
    Mode.JSON: "told sale",
    Mode.JSON_SCHEMA: "fenced sale",
    Mode.MD_JSON: "fenced sale",
}


def ask(mode, text, model=Sale, key=KEY, **options):
    caller = instructor.from_openai(openai.OpenAI(base_url=PROXY, api_key=key, max_retries=0, timeout=20), mode=mode)
    return caller.chat.completions.create(
        model="chaturdata", response_model=model, messages=[user(text)], **{"max_retries": 1, **options}
    )


class Typed(unittest.TestCase):
    def test_every_mode_gives_a_typed_answer(self):
        for mode, words in WORDS.items():
            with self.subTest(mode.name):
                self.assertEqual(ask(mode, prompt(words)).model_dump(), NORTH)

    def test_a_wrong_answer_is_asked_for_again_on_the_same_thread(self):
        for mode, words in WORDS.items():
            with self.subTest(mode.name):
                text = prompt(words)

                answer = ask(mode, text, model=Loud, max_retries=2)

                self.assertEqual(answer.region, "NORTH")
                self.assertEqual(len(posts_of(text)), 1)

    def test_several_are_called_for_at_once(self):
        (sale,) = ask(Mode.PARALLEL_TOOLS, prompt("call Sale"), model=Iterable[Sale])

        self.assertEqual(sale.model_dump(), NORTH)

    def test_a_partial_stream_ends_in_the_answer(self):
        caller = instructor.from_openai(openai.OpenAI(base_url=PROXY, api_key=KEY, max_retries=0), mode=Mode.JSON_SCHEMA)
        request = {"model": "chaturdata", "messages": [user(prompt("told sale"))]}

        *_, last = caller.chat.completions.create_partial(response_model=Sale, **request)

        self.assertEqual(last.model_dump(), NORTH)

    def test_responses_give_a_typed_answer(self):
        caller = instructor.from_openai(
            openai.OpenAI(base_url=PROXY, api_key=KEY, max_retries=0), mode=Mode.RESPONSES_TOOLS
        )

        answer = caller.chat.completions.create(
            model="chaturdata", response_model=Sale, messages=[user(prompt("call Sale"))]
        )

        self.assertEqual(answer.model_dump(), NORTH)


class Errors(unittest.TestCase):
    def test_errors_tell_what_was_wrong(self):
        for words, key, told in (
            ("plain", WRONG_KEY, "Incorrect API key provided"),
            ("limited", KEY, "429"),
            ("failing", KEY, "the query broke"),
        ):
            with self.subTest(words), self.assertRaises((InstructorRetryException, openai.APIStatusError)) as raised:
                ask(Mode.TOOLS, prompt(words), key=key)
            self.assertIn(told, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
