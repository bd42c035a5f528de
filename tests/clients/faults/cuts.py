"""Both SDKs, and a program without marks, cut at every phase of a call: cuts.py BINARY [--cases N] [--seed S]

Between the caller and the proxy an exchange is cut at seven places, between the proxy and the upstream at five; some
callers are only less patient than their run is long. Each turn must be posted once on a thread, end in the right answer or in `upstream_outcome_unknown`, and not be posted anew by a
retry that says that it is one.
"""

import argparse
import collections
import concurrent.futures
import json
import random
import re
import sys
import tempfile
import threading

import relay
import rig

UPSTREAM = (("POST", "connect"), ("POST", "request body"), ("POST", "request"), ("POST", "answer body"), ("GET", None))
PLACES = [("caller", phase) for phase in relay.PHASES] + [("upstream", place) for place in UPSTREAM]
# A person who asks again comes later than the proxy can learn of the hang-up.
PAUSE = 0.3


class Upstream:
    """The relay before the sandbox: cuts the calls of the turns that are armed."""

    def __init__(self, sandbox):
        self.lock = threading.Lock()
        self.posts = {}
        self.polls = {}
        self.polled = {}
        self.cut = set()
        self.relay = relay.Relay(sandbox, self.choose, self.learn)

    def arm(self, turn, method, cut):
        with self.lock:
            (self.posts if method == "POST" else self.polls)[turn.mark] = cut

    def choose(self, request):
        with self.lock:
            if request.startswith(b"POST"):
                marks, cuts = re.findall(rb"[0-9a-f]{32}", request)[-1:], self.posts
            else:
                marks, cuts = [self.polled.pop(re.search(rb"threadId=(\S+)", request)[1], b"")], self.polls
            mark = marks[0].decode() if marks else ""
            cut = cuts.pop(mark, None)
            if cut:
                self.cut.add(mark)
            return cut

    def learn(self, request, answer):
        """Which thread's polls are those of an armed turn."""
        marks = re.findall(rb"[0-9a-f]{32}", request) if request.startswith(b"POST") else []
        with self.lock:
            if marks and marks[-1].decode() in self.polls:
                thread = json.loads(answer.partition(b"\r\n\r\n")[2])["thread_id"]
                self.polled[thread.encode()] = marks[-1]


def tried(case, upstream, proxy, callers):
    """A conversation of two turns of which one is cut."""
    (side, place), name, seed = case
    chance = random.Random(seed)
    caller, befallen = callers[name], chance.randrange(2)
    turns = []
    for number in range(2):
        turn = rig.Turn(turns)
        cut = None
        base = proxy
        if number == befallen and side == "caller":
            cut = [relay.Cut(place, chance.random(), chance.random() < 0.5)]
            between = relay.Relay(proxy, lambda request: cut.pop() if cut else None)
            base = between.port
        elif number == befallen and side == "upstream":
            method, phase = place
            phase = phase or chance.choice(("connect", "request", "answer head", "answer body"))
            upstream.arm(turn, method, relay.Cut(phase, chance.random(), chance.random() < 0.5))
        turn.stream = chance.random() < 0.5
        turn.anew = False
        patience = {}
        if number == befallen and side == "patience":
            turn.words = "a slow matter,"
            patience = {"retries": 8, "timeout": chance.choice((1, 2))}
        while turn.calls < 5:
            turn.calls += 1
            turn.end = caller.ask(f"http://127.0.0.1:{base}", turn.messages(), turn.stream, **patience)
            if "broken" not in turn.end:
                break
            # No SDK repeats a stream that broke off: its user does.
            turn.anew = True
            threading.Event().wait(PAUSE)
        turn.anew |= not caller.marks_retries
        turn.was_cut = side == "patience" or (not cut if cut is not None else turn.mark in upstream.cut)
        turn.befallen = number == befallen
        turns.append(turn)
        if "text" not in turn.end:
            break
    return turns


def judged(case, turns, posts):
    (side, place), name, seed = case
    for turn in turns:
        for kind, what in turn.faults(posts):
            yield kind, what
        asked = len(list(turn.threads(posts)))
        # What was written out in full, and is asked again without a mark, is a regeneration.
        may_be_new = side == "caller" and place in relay.ANSWER_PHASES and turn.anew
        if side != "upstream" and asked > 1 and not may_be_new:
            yield "posted anew", f"{turn.mark}: on {asked} threads"
        if side == "upstream" and asked > 2:
            yield "posted anew", f"{turn.mark}: on {asked} threads"
        if turn.befallen and not turn.was_cut:
            yield "not cut", f"{turn.mark}: {case} met no cut"


def cases(wanted, seed):
    chance = random.Random(seed)
    number = 0
    while number < wanted:
        for place in PLACES:
            for name in ("python", "node"):
                yield place, name, chance.getrandbits(32)
                number += 1
        for phase in relay.PHASES:
            yield ("caller", phase), "plain", chance.getrandbits(32)
        for name in ("python", "node", "plain"):
            yield ("patience", None), name, chance.getrandbits(32)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary")
    arguments.add_argument("--cases", type=int, default=24)
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    callers = {"python": rig.PythonSdk(), "node": rig.NodeSdk(), "plain": rig.Plain()}
    with tempfile.TemporaryDirectory() as scratch, open(f"{scratch}/log", "w+b") as log:
        sandbox = rig.Sandbox(asked.binary, log)
        upstream = Upstream(sandbox.port)
        port = rig.free_port()
        arguments = rig.proxy_arguments(asked.binary, port, upstream.relay.port, scratch)
        proxy, _ = rig.started(arguments, port, rig.PACE, log)
        try:
            chosen = list(cases(asked.cases, asked.seed))
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                tries = [pool.submit(tried, case, upstream, port, callers) for case in chosen]
                ends = [one.result() for one in tries]
            posts = sandbox.posts()
        finally:
            proxy.terminate()
            ended = proxy.wait(timeout=30)
            sandbox.program.terminate()
        found = [(case, fault) for case, turns in zip(chosen, ends) for fault in judged(case, turns, posts)]
        counts = collections.Counter(kind for _, (kind, _) in found)
        unknown = sum(turn.end.get("code") == "upstream_outcome_unknown" for turns in ends for turn in turns)
        print(
            f"cuts: {len(chosen)} cases, {sum(map(len, ends))} turns, {unknown} told unknown, "
            f"{dict(counts) or 'nothing wrong'} (seed {asked.seed})"
        )
        for case, (kind, what) in found:
            print(f"  {kind}: {case}: {what}")
        if ended != 0:
            print(f"the proxy ended with {ended}")
        sys.exit(bool(found) or ended != 0)


main()
