"""The command `llm` in front of the proxy."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from proxy import KEY, PROXY, WRONG_KEY, posts_of, prompt

FUNCTION = 'def orders(region: str) -> int:\n    "How many orders a region has."\n    return 3\n'
BOTH = ("chat", "responses")

COMMON = f"model_name: chaturdata, api_base: {PROXY}, api_key_name: chaturdata"
MODELS = f"""
- {{model_id: chat, {COMMON}, supports_schema: true, supports_tools: true}}
- {{model_id: responses, {COMMON}, supports_schema: true, supports_tools: true, responses: true}}
- {{model_id: legacy, {COMMON}, completion: true}}
"""


class Command(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        Path(self.home.name, "extra-openai-models.yaml").write_text(MODELS)

    def ran(self, model, *arguments, key=KEY):
        command = [Path(sys.executable).parent / "llm", "prompt", "--model", model, "--key", key, *arguments]
        environment = {**os.environ, "LLM_USER_PATH": self.home.name}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    def told(self, *arguments):
        ran = self.ran(*arguments)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout.strip()

    def test_a_question_is_answered_in_a_stream_and_whole(self):
        for model in (*BOTH, "legacy"):
            with self.subTest(model):
                self.assertEqual(self.told(model, prompt("growing")), "One, two, three, four.")
        self.assertEqual(self.told("chat", "--no-stream", "--system", "Be brief.", prompt("plain")), "A plain answer.")

    def test_three_turns_go_to_one_thread(self):
        for model in BOTH:
            with self.subTest(model):
                texts = [prompt("plain") for _ in range(3)]
                self.told(model, texts[0])
                self.told(model, "--continue", texts[1])
                self.told(model, "--continue", texts[2])

                found = [post for text in texts for post in posts_of(text)]
                self.assertEqual([post["message"] for post in found], texts)
                self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_a_schema_is_answered_in_json(self):
        for model in BOTH:
            with self.subTest(model):
                told = self.told(model, "--schema", "region, orders int", prompt("fenced sale"))

                self.assertEqual(json.loads(told), {"region": "North", "orders": 3})

    def test_a_loop_of_tools_is_completed(self):
        for model in BOTH:
            with self.subTest(model):
                told = self.told(model, "--functions", FUNCTION, prompt("call orders"))

                self.assertEqual(told, "There are 3 orders in the North.")

    def test_errors_are_told(self):
        self.assertIn("Incorrect API key provided", self.ran("chat", prompt("plain"), key=WRONG_KEY).stderr)
        self.assertIn("the query broke", self.ran("chat", "--no-stream", prompt("failing")).stderr)


if __name__ == "__main__":
    unittest.main()
