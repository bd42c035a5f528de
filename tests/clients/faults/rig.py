"""What the fault harnesses share: the processes, the callers, and what is right."""

import hashlib
import http.client
import itertools
import json
import pathlib
import queue
import socket
import subprocess
import threading
import time
import urllib.request
import uuid

import httpx2
import openai

HERE = pathlib.Path(__file__).resolve().parent
KEY = "sk-harness"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listens(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def started(arguments, port, settings, log):
    """The program, and how long it took to listen."""
    began = time.monotonic()
    program = subprocess.Popen(
        [str(argument) for argument in arguments],
        env={f"CHATURDATA_PROXY_{name}": str(value) for name, value in settings.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    while not listens(port):
        if program.poll() is not None or time.monotonic() > began + 30:
            raise SystemExit(f"it does not listen; its exit code: {program.poll()}")
        time.sleep(0.002)
    return program, time.monotonic() - began


class Sandbox:
    """The simulated upstream as a process of its own."""

    def __init__(self, binary, log):
        self.port = free_port()
        arguments = [binary, "sandbox", "--listen", f"127.0.0.1:{self.port}", "--script", HERE / "script.toml"]
        self.program, _ = started(arguments, self.port, {}, log)

    def posts(self):
        """The messages of each thread, in the order of their arrival."""
        threads = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/sandbox/posts", timeout=30) as answer:
            for post in json.load(answer):
                threads.setdefault(post["thread_id"], []).append(post["message"])
        return threads


def proxy_arguments(binary, port, upstream, state):
    return [binary, "--listen", f"127.0.0.1:{port}", "--upstream-url", f"http://127.0.0.1:{upstream}", "--state-dir", state]


PACE = {"PACE__INTERVAL": "100ms", "PACE__MIN_GAP": "50ms"}


def recital(messages):
    """What the sandbox answers to these messages."""
    digest = hashlib.sha256()
    for message in messages:
        message = message.encode()
        digest.update(len(message).to_bytes(8, "little") + message)
    return digest.hexdigest()[:16]


class Turn:
    """One turn of one conversation, and how it ended."""

    def __init__(self, earlier):
        self.mark = uuid.uuid4().hex
        self.words = "what of"
        self.earlier = list(earlier)
        self.end = None
        self.calls = 0
        self.kills = 0

    def messages(self):
        messages = []
        for turn in self.earlier:
            messages.append({"role": "user", "content": turn.prompt()})
            messages.append({"role": "assistant", "content": turn.end["text"]})
        return [*messages, {"role": "user", "content": self.prompt()}]

    def prompt(self):
        return f"{self.words} {self.mark}"

    def threads(self, posts):
        """Where this was asked: the thread, and its messages up to the question."""
        for thread, messages in posts.items():
            for place, message in enumerate(messages):
                if message.endswith(self.mark):
                    yield thread, messages[: place + 1]
                    break

    def faults(self, posts):
        """What is wrong with this turn's end."""
        for thread, messages in posts.items():
            times = sum(self.mark in message for message in messages)
            if times > 1:
                yield "double", f"{self.mark}: {times} times on {thread}"
        if "text" in self.end:
            visible = {turn.mark for turn in [*self.earlier, self]}
            if not any(self._rests_on(messages, visible) for _, messages in self.threads(posts)):
                yield "wrong", f"{self.mark}: {self.end} is not its answer"
        elif self.end.get("code") != "upstream_outcome_unknown":
            yield "lost", f"{self.mark}: {self.end} after {self.calls} calls"

    def _rests_on(self, messages, visible):
        told = "\n".join(messages)
        marks = {word for word in told.split() if len(word) == 32 and set(word) <= set("0123456789abcdef")}
        return self.end["text"] == recital(messages) and marks == visible


def refused(code, message):
    """An error of the proxy's; some say that asking again helps."""
    is_passing = code == "upstream_unreachable" or "send the same request again" in message
    return {"code": code} | ({"again": True} if is_passing else {})


class PythonSdk:
    """The Python SDK with its own retries."""

    marks_retries = True

    def __init__(self):
        self.clients = {}

    def ask(self, base, messages, stream, retries=2, timeout=60):
        key = (base, retries, timeout)
        if key not in self.clients:
            self.clients[key] = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=retries, timeout=timeout)
        try:
            answer = self.clients[key].chat.completions.create(model="chaturdata", messages=messages, stream=stream)
            if not stream:
                return {"text": answer.choices[0].message.content}
            return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)}
        except openai.APIConnectionError as error:
            return {"broken": repr(error)}
        except openai.APIError as error:
            return refused(error.code, str(error)) if error.code else {"broken": repr(error)}
        except httpx2.HTTPError as error:
            return {"broken": repr(error)}


class NodeSdk:
    """The Node SDK with its own retries, in a process of its own."""

    marks_retries = True

    def __init__(self):
        self.program = subprocess.Popen(
            ["node", HERE.parent / "node" / "caller.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ids = itertools.count()
        self.waiting = {}
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.program.stdout:
            end = json.loads(line)
            waiting = self.waiting.pop(end.pop("id"))
            waiting.put(refused(end["code"], end["message"]) if "code" in end else end)

    def ask(self, base, messages, stream, retries=2, timeout=60):
        end = queue.Queue()
        with self.lock:
            number = next(self.ids)
            self.waiting[number] = end
            request = {"id": number, "base": base, "messages": messages, "stream": stream}
            request |= {"retries": retries, "timeout": timeout * 1000}
            self.program.stdin.write(json.dumps(request) + "\n")
            self.program.stdin.flush()
        return end.get(timeout=600)


class Plain:
    """A program that asks anew where it was not answered, and marks nothing."""

    marks_retries = False

    def ask(self, base, messages, stream, retries=2, timeout=60):
        end = {"broken": "never asked"}
        for attempt in range(retries + 1):
            time.sleep(0.5 * attempt)
            end = self._once(base, messages, stream, timeout)
            if "broken" not in end:
                break
        return end

    def _once(self, base, messages, stream, timeout):
        caller = http.client.HTTPConnection(base.removeprefix("http://"), timeout=timeout)
        body = json.dumps({"model": "chaturdata", "messages": messages, "stream": stream})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        try:
            caller.request("POST", "/v1/chat/completions", body, headers)
            answer = caller.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return {"broken": repr(error)}
        finally:
            caller.close()
        try:
            return self._ending(answer.status, text, stream)
        except ValueError:
            # To this library a head that was cut is a whole one.
            return {"broken": "no JSON"}

    @staticmethod
    def _ending(status, text, stream):
        if status != 200:
            return {"code": json.loads(text)["error"]["code"]}
        if not stream:
            return {"text": json.loads(text)["choices"][0]["message"]["content"]}
        frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
        if frames[-1:] != ["[DONE]"]:
            error = json.loads(frames[-1]).get("error") if frames else None
            return {"code": error["code"]} if error else {"broken": "half a stream"}
        deltas = [choice["delta"].get("content") or "" for frame in frames[:-1] for choice in json.loads(frame)["choices"]]
        return {"text": "".join(deltas)}
