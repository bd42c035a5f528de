"""The Python SDK's Responses and Conversations in front of the proxy, every body against the SDK's own models."""

import json
import time
import unittest

import openai
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response, ResponseStreamEvent
from proxy import WRONG_KEY, client, events, posts_of, prompt, user
from pydantic import TypeAdapter

EVENT = TypeAdapter(ResponseStreamEvent)
ITEM = TypeAdapter(ConversationItem)

# What a stream of one text tells, but for its deltas.
COURSE = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def create(text, **options):
    return client().responses.create(model="chaturdata", input=text, **options)


def raw(text, **options):
    return client().responses.with_raw_response.create(model="chaturdata", input=text, **options)


def strictly(response):
    return Response.model_validate_json(response.content, strict=True, extra="forbid")


def ended(identity, within=15):
    """The response once its run has ended."""
    end = time.monotonic() + within
    while (response := client().responses.retrieve(identity)).status in ("queued", "in_progress"):
        assert time.monotonic() < end, f"still {response.status}"
        time.sleep(0.1)
    return response


class Answer(unittest.TestCase):
    def test_a_question_is_answered(self):
        text = prompt("plain")

        response = create(text, metadata={"team": "sales"})

        self.assertEqual((response.status, response.output_text), ("completed", "A plain answer."))
        self.assertEqual(response.metadata, {"team": "sales"})
        self.assertGreater(response.usage.total_tokens, 0)
        self.assertEqual([post["message"] for post in posts_of(text)], [text])

    def test_an_answer_fits_the_sdks_own_model_strictly_and_names_its_conversation(self):
        answer = raw(prompt("plain"), instructions="Be brief.", max_output_tokens=500, truncation="auto")

        response = strictly(answer)
        self.assertTrue(response.id.startswith("resp_"))
        self.assertEqual(response.instructions, "Be brief.")
        self.assertTrue(answer.headers["x-conversation-id"].startswith("conv_"))
        self.assertEqual(answer.headers["x-conversation-decision"], "created")

    def test_an_answer_that_reaches_its_limit_is_incomplete(self):
        response = create(prompt("growing"), max_output_tokens=2)

        self.assertEqual(response.status, "incomplete")
        self.assertEqual(response.incomplete_details.reason, "max_output_tokens")

    def test_it_is_found_again_with_its_input_until_it_is_deleted(self):
        text = prompt("plain")
        made = create(text)

        found = client().responses.with_raw_response.retrieve(made.id)
        (item,) = client().responses.input_items.list(made.id).data
        client().responses.delete(made.id)

        self.assertEqual(strictly(found).output_text, "A plain answer.")
        self.assertEqual((item.role, item.content[0].text), ("user", text))
        with self.assertRaises(openai.NotFoundError):
            client().responses.retrieve(made.id)

    def test_one_that_is_not_stored_is_not_found(self):
        response = create(prompt("plain"), store=False)

        with self.assertRaises(openai.NotFoundError) as raised:
            client().responses.retrieve(response.id)

        self.assertEqual(raised.exception.code, "response_not_found")

    def test_the_tokens_of_an_input_are_counted(self):
        counted = client().responses.input_tokens.count(model="chaturdata", input="How many orders?")

        self.assertGreater(counted.input_tokens, 0)


class Turns(unittest.TestCase):
    def on_one_thread(self, texts, decisions, heads):
        self.assertEqual([head["x-conversation-decision"] for head in heads], decisions)
        found = [post for text in texts for post in posts_of(text)]
        self.assertEqual([post["message"] for post in found], texts)
        self.assertEqual(len({post["thread_id"] for post in found}), 1)

    def test_three_turns_by_the_response_before(self):
        texts, heads, last = [prompt("plain") for _ in range(3)], [], None
        for text in texts:
            answer = raw(text, previous_response_id=last)
            last = answer.parse().id
            heads.append(answer.headers)

        self.on_one_thread(texts, ["created", "appended", "appended"], heads)

    def test_three_turns_by_resent_items(self):
        texts, heads, items = [prompt("plain") for _ in range(3)], [], []
        for text in texts:
            items.append(user(text))
            answer = raw(items, store=False)
            items += answer.parse().output
            heads.append(answer.headers)

        self.on_one_thread(texts, ["created", "appended", "appended"], heads)

    def test_three_turns_of_a_conversation_which_lists_them(self):
        conversation = client().conversations.create()
        texts, heads = [prompt("plain") for _ in range(3)], []
        for text in texts:
            heads.append(raw(text, conversation=conversation.id).headers)

        self.on_one_thread(texts, ["created", "appended", "appended"], heads)
        listed = client().conversations.items.with_raw_response.list(conversation.id, order="asc")
        for item in json.loads(listed.content)["data"]:
            ITEM.validate_json(json.dumps(item), strict=True)
        said = [(item.role, item.content[0].text) for item in listed.parse().data]
        self.assertEqual(said, [turn for text in texts for turn in (("user", text), ("assistant", "A plain answer."))])

    def test_an_earlier_response_is_a_fork(self):
        first = create(prompt("plain"))
        create(prompt("plain"), previous_response_id=first.id)
        text = prompt("plain")

        answer = raw(text, previous_response_id=first.id)

        self.assertEqual(answer.headers["x-conversation-decision"], "forked")
        self.assertEqual(len(posts_of(text)), 1)

    def test_a_conversation_goes_on_from_chat_to_responses_and_back(self):
        conversation = client().conversations.create()
        texts = [prompt("plain") for _ in range(3)]
        head = {"X-Conversation-Id": conversation.id}

        def chat(text):
            client().chat.completions.create(model="chaturdata", messages=[user(text)], extra_headers=head)

        chat(texts[0])
        create(texts[1], conversation=conversation.id)
        chat(texts[2])

        self.assertEqual(len({posts_of(text)[0]["thread_id"] for text in texts}), 1)


class Stream(unittest.TestCase):
    def test_the_helper_gathers_the_response(self):
        with client().responses.stream(model="chaturdata", input=prompt("growing")) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            response = stream.get_final_response()

        self.assertEqual("".join(deltas), "One, two, three, four.")
        self.assertEqual(response.output_text, "One, two, three, four.")

    def test_events_come_in_order_and_fit_the_sdks_own_models_strictly(self):
        streaming = client().responses.with_streaming_response
        with streaming.create(model="chaturdata", input=prompt("growing"), stream=True) as response:
            told = list(events(response))

        course = [name for name, _ in told if name != "response.output_text.delta"]
        self.assertEqual([name for name in course if name != "response.queued"], COURSE)
        for number, (name, data) in enumerate(told):
            event = EVENT.validate_json(data, strict=True)
            self.assertEqual((event.type, event.sequence_number), (name, number))

    def test_a_stream_is_told_again_from_any_event(self):
        whole = list(create(prompt("growing"), stream=True))
        identity = whole[0].response.id

        rest = list(client().responses.retrieve(identity, stream=True, starting_after=2))

        self.assertEqual(rest[0].sequence_number, 3)
        self.assertEqual(rest[-1].type, "response.completed")
        self.assertEqual(rest[-1].response.output_text, "One, two, three, four.")

    def test_a_run_that_fails_ends_its_stream_with_the_words(self):
        told = list(create(prompt("failing"), stream=True))

        self.assertEqual(told[-1].type, "response.failed")
        self.assertIn("the query broke", told[-1].response.error.message)


class Background(unittest.TestCase):
    def test_it_returns_at_once_and_is_polled(self):
        began = time.monotonic()
        response = create(prompt("slow"), background=True)
        took = time.monotonic() - began

        self.assertIn(response.status, ("queued", "in_progress"))
        self.assertLess(took, 2.5)
        self.assertEqual(ended(response.id).output_text, "A slow answer.")

    def test_it_is_streamed_later(self):
        response = create(prompt("slow"), background=True)

        told = list(client().responses.retrieve(response.id, stream=True))

        self.assertEqual([event.sequence_number for event in told], list(range(len(told))))
        self.assertEqual(told[-1].response.output_text, "A slow answer.")

    def test_one_that_fails_is_a_failed_response_in_the_upstreams_words(self):
        response = ended(create(prompt("failing"), background=True).id)

        self.assertEqual((response.status, response.error.code), ("failed", "server_error"))
        self.assertIn("the query broke", response.error.message)

    def test_it_is_cancelled(self):
        response = create(prompt("slow"), background=True)

        cancelled = client().responses.with_raw_response.cancel(response.id)

        self.assertEqual(strictly(cancelled).status, "cancelled")
        self.assertEqual(client().responses.retrieve(response.id).status, "cancelled")

    def test_only_what_runs_in_the_background_is_cancelled(self):
        response = create(prompt("plain"))

        with self.assertRaises(openai.BadRequestError):
            client().responses.cancel(response.id)


class Conversations(unittest.TestCase):
    def test_it_is_made_changed_read_and_deleted(self):
        made = client().conversations.with_raw_response.create(metadata={"team": "sales"})
        conversation = Conversation.model_validate_json(made.content, strict=True, extra="forbid")
        changed = client().conversations.update(conversation.id, metadata={"team": "ops"})
        found = client().conversations.retrieve(conversation.id)
        deleted = client().conversations.delete(conversation.id)

        self.assertTrue(conversation.id.startswith("conv_"))
        self.assertEqual((changed.metadata, found.metadata), ({"team": "ops"}, {"team": "ops"}))
        self.assertEqual((deleted.id, deleted.deleted), (conversation.id, True))
        with self.assertRaises(openai.NotFoundError) as raised:
            client().conversations.retrieve(conversation.id)
        self.assertEqual(raised.exception.code, "conversation_not_found")

    def test_items_that_were_put_there_are_posted_with_the_next_prompt(self):
        said, asked = prompt("remembered"), prompt("plain")
        items = [{"type": "message", "role": "user", "content": said}]
        conversation = client().conversations.create(items=items)
        (item,) = client().conversations.items.list(conversation.id).data
        found = client().conversations.items.retrieve(item.id, conversation_id=conversation.id)
        client().conversations.items.create(conversation.id, items=[{"role": "assistant", "content": "Noted."}])

        create(asked, conversation=conversation.id)

        listed = client().conversations.items.list(conversation.id, order="asc").data
        self.assertEqual(found.content[0].text, said)
        self.assertEqual([item.content[0].text for item in listed], [said, "Noted.", asked, "A plain answer."])
        (post,) = posts_of(asked)
        self.assertIn(said, post["message"])
        self.assertIn("Noted.", post["message"])


class Errors(unittest.TestCase):
    def refused(self, error, call, code):
        with self.assertRaises(error) as raised:
            call()
        self.assertEqual(raised.exception.code, code)
        self.assertEqual(set(raised.exception.body), {"message", "type", "param", "code"})
        return raised.exception

    def test_a_wrong_key_is_an_authentication_error(self):
        def call():
            client(api_key=WRONG_KEY).responses.create(model="chaturdata", input=prompt("plain"))

        self.refused(openai.AuthenticationError, call, "invalid_api_key")

    def test_an_unknown_response_before_is_not_found_and_nothing_is_posted(self):
        text = prompt("plain")

        def call():
            create(text, previous_response_id="resp_0123456789abcdef")

        self.refused(openai.NotFoundError, call, "response_not_found")
        self.assertEqual(posts_of(text), [])

    def test_another_callers_response_is_not_found_to_the_byte(self):
        response = create(prompt("plain"))

        def bytes_of(caller, identity):
            with self.assertRaises(openai.NotFoundError) as raised:
                caller.responses.retrieve(identity)
            return raised.exception.response.content.replace(identity.encode(), b"")

        foreign = bytes_of(client(api_key=WRONG_KEY), response.id)
        client().responses.delete(response.id)

        self.assertEqual(foreign, bytes_of(client(), response.id))

    def test_a_conversation_and_a_response_before_at_once_are_a_bad_request(self):
        conversation, response = client().conversations.create(), create(prompt("plain"))

        with self.assertRaises(openai.BadRequestError):
            create(prompt("plain"), conversation=conversation.id, previous_response_id=response.id)

    def test_too_many_requests_is_a_rate_limit_error(self):
        self.refused(openai.RateLimitError, lambda: create(prompt("limited")), "rate_limit_exceeded")

    def test_a_failed_run_is_a_server_error_in_the_upstreams_words(self):
        refusal = self.refused(openai.InternalServerError, lambda: create(prompt("failing")), "run_failed")

        self.assertIn("the query broke", refusal.body["message"])
        self.assertEqual(refusal.response.headers["x-should-retry"], "false")


class LegacyCompletion(unittest.TestCase):
    def test_a_prompt_is_answered_whole_and_in_a_stream(self):
        text = prompt("growing")

        whole = client().completions.create(model="chaturdata", prompt=text)
        chunks = list(client().completions.create(model="chaturdata", prompt=[prompt("growing")], stream=True))

        self.assertEqual((whole.object, whole.choices[0].finish_reason), ("text_completion", "stop"))
        self.assertEqual(whole.choices[0].text, "One, two, three, four.")
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), "One, two, three, four.")
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
        self.assertEqual([post["message"] for post in posts_of(text)], [text])


if __name__ == "__main__":
    unittest.main()
