"""Kills the proxy at random moments under both SDKs: kill.py BINARY [--kills N] [--seed S] [--memory]

The proxy is started again at once, on the same port and the same state. Every call must end in the right answer or in
`upstream_outcome_unknown`, nothing may be posted twice on a thread, a conversation that was acknowledged must be known
after a kill, an SDK's own retries must outlast one kill, and they must not post a turn anew. With --memory the proxy
keeps nothing, and the harness must find it out.
"""

import argparse
import collections
import random
import signal
import sys
import tempfile
import threading
import time

import rig

# Between the port's return and the next kill: longer than most calls take.
QUIET = (0.5, 2.5)
WORKERS = ("python", "node") * 4
# SDKs give up 1.2 s after the first refused connection.
BACK_IN = 0.8
# Where it is not known whether a thread took a message, the proxy looks for ten seconds: longer than it is let live.
ASKED_AGAIN = 200


class Proxy:
    """The proxy under attack."""

    def __init__(self, binary, upstream, state, settings, log):
        self.port = rig.free_port()
        self.arguments = rig.proxy_arguments(binary, self.port, upstream, state)
        self.settings = settings
        self.log = log
        self.kills = 0
        self.is_down = False
        self.back = []
        self._start()

    def _start(self):
        self.program, took = rig.started(self.arguments, self.port, self.settings, self.log)
        return took

    def kill(self):
        began = time.monotonic()
        self.is_down = True
        self.kills += 1
        self.program.send_signal(signal.SIGKILL)
        self.program.wait()
        self._start()
        self.back.append(time.monotonic() - began)
        self.is_down = False

    def stop(self):
        self.program.terminate()
        return self.program.wait(timeout=30)


class Worker(threading.Thread):
    """A caller that holds short conversations until it is told to stop."""

    def __init__(self, caller, proxy, chance, stop):
        super().__init__(daemon=True)
        self.caller, self.proxy, self.chance, self.stop = caller, proxy, chance, stop
        self.turns = []

    def run(self):
        while not self.stop.is_set():
            earlier = []
            for _ in range(self.chance.randrange(1, 4)):
                turn = self.turn(earlier)
                earlier.append(turn)
                if "text" not in turn.end:
                    break
                # So that kills fall between turns too.
                self.stop.wait(self.chance.random())

    def turn(self, earlier):
        turn = rig.Turn(earlier)
        self.turns.append(turn)
        turn.stream = self.chance.random() < 0.5
        before = self.proxy.kills
        turn.gave_up = False
        while turn.calls < ASKED_AGAIN:
            kills = self.proxy.kills - self.proxy.is_down
            turn.calls += 1
            turn.end = self.caller.ask(f"http://127.0.0.1:{self.proxy.port}", turn.messages(), turn.stream)
            if "broken" not in turn.end and "again" not in turn.end:
                break
            # No SDK repeats a stream that broke off, and none outlasts kill after kill: a person asks again.
            turn.gave_up |= not turn.stream and self.proxy.kills - kills <= 1
            time.sleep(0.3)
        turn.kills = self.proxy.kills - before
        return turn


def faults(turn, posts):
    yield from turn.faults(posts)
    threads = [thread for thread, _ in turn.threads(posts)]
    if turn.gave_up:
        yield "gave up", f"{turn.mark}: {turn.calls} calls, {turn.kills} kills"
    # A turn on a thread that is known may be asked once more on another one, where it was lost on the way.
    allowed = 2 if turn.earlier else 1
    if turn.calls == 1 and len(threads) > allowed:
        yield "posted anew", f"{turn.mark}: on {len(threads)} threads, in one call"
    if turn.earlier and not turn.kills and "text" in turn.end:
        before = [thread for thread, _ in turn.earlier[-1].threads(posts)]
        if not set(before) & set(threads):
            yield "forgotten", f"{turn.mark}: on {threads}, its conversation is on {before}"


def attacked(asked, scratch, log):
    chance = random.Random(asked.seed)
    callers = {"python": rig.PythonSdk(), "node": rig.NodeSdk()}
    sandbox = rig.Sandbox(asked.binary, log)
    settings = rig.PACE | ({"STORE__KIND": "memory"} if asked.memory else {})
    proxy = Proxy(asked.binary, sandbox.port, scratch, settings, log)
    stop = threading.Event()
    workers = [Worker(callers[name], proxy, random.Random(chance.random()), stop) for name in WORKERS]
    try:
        for worker in workers:
            worker.start()
        for _ in range(asked.kills):
            time.sleep(chance.uniform(*QUIET))
            proxy.kill()
        stop.set()
        for worker in workers:
            worker.join(timeout=180)
        hung = sum(worker.is_alive() for worker in workers)
        return proxy, [turn for worker in workers for turn in worker.turns if turn.end], sandbox.posts(), hung
    finally:
        ended = proxy.stop()
        sandbox.program.terminate()
        if ended:
            sys.exit(f"the proxy ended with {ended}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary")
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--memory", action="store_true")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch, open(f"{scratch}/log", "w+b") as log:
        proxy, turns, posts, hung = attacked(asked, scratch, log)
    found = [fault for turn in turns for fault in faults(turn, posts)]
    found += [("lost", "a caller that still waits")] * hung
    late = sorted(proxy.back)[int(len(proxy.back) * 0.99) - 1]
    if late >= BACK_IN:
        found.append(("late", f"the port was back after {late:.2f} s"))
    counts = collections.Counter(kind for kind, _ in found)
    unknown = sum(turn.end.get("code") == "upstream_outcome_unknown" for turn in turns)
    several = sum(len(list(turn.threads(posts))) > 1 for turn in turns)
    print(
        f"kills: {proxy.kills}, {len(turns)} turns of which {sum(bool(turn.kills) for turn in turns)} met a kill, "
        f"{unknown} told unknown, {several} on a second thread, port back p99 {late * 1000:.0f} ms, "
        f"{dict(counts) or 'nothing wrong'} (seed {asked.seed})"
    )
    for kind, what in found[:40]:
        print(f"  {kind}: {what}")
    sys.exit(bool(found) if not asked.memory else not found)


main()
