"""How the suites reach the proxy, and what its upstream had of them."""

import json
import os
import urllib.request
import uuid

import openai

PROXY = os.environ["PROXY_URL"] + "/v1"
SANDBOX = os.environ["SANDBOX_URL"]
KEY = os.environ["CALLER_KEY"]
WRONG_KEY = os.environ["WRONG_KEY"]

# A person who asks again comes later than the proxy can learn of the hang-up.
PAUSE = 0.3


def client(**options):
    return openai.OpenAI(**{"base_url": PROXY, "api_key": KEY, "max_retries": 0, "timeout": 20, **options})


def prompt(words):
    """The words steer the sandbox's script; the mark tells this prompt from every other."""
    return f"{words} {uuid.uuid4().hex}"


def user(text):
    return {"role": "user", "content": text}


def ask(words, **options):
    return {"model": "chaturdata", "messages": [user(prompt(words))], **options}


def posts(request):
    """What the upstream accepted of this request's last message."""
    return posts_of(request["messages"][-1]["content"])


def posts_of(text):
    """What the upstream accepted with a prompt's mark in it, in order."""
    mark = text.split()[-1]
    with urllib.request.urlopen(f"{SANDBOX}/sandbox/posts", timeout=10) as answer:
        return [post for post in json.load(answer) if mark in post["message"]]


def strictly(model, body):
    return model.model_validate_json(body, strict=True, extra="forbid")


def frames(response):
    """The data of each frame; anything but data lines, comments and blank lines is a mistake."""
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            assert line.startswith("data: "), line
            yield line.removeprefix("data: ")


def events(response):
    """The name and the data of each event of a stream of a response."""
    name = None
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, line.removeprefix("data: ")
        else:
            assert not line or line.startswith(":"), line
