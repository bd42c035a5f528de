"""A TCP relay that cuts single HTTP exchanges where it is told to."""

import re
import socket
import struct
import threading
import time

REQUEST_PHASES = ("connect", "request head", "request body", "request")
ANSWER_PHASES = ("answer head", "answer body", "answer")
PHASES = REQUEST_PHASES + ANSWER_PHASES


class Cut:
    """Where an exchange ends: the phase, how far into it, and whether by a reset."""

    def __init__(self, phase, fraction, resets):
        self.phase = phase
        self.fraction = fraction
        self.resets = resets


class Relay:
    """`choose` is shown each request, and the connections before it, and returns its cut or None."""

    def __init__(self, target, choose, learn=lambda request, answer: None):
        self.target = target
        self.choose = choose
        self.learn = learn
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller):
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while self._exchange(caller):
                pass
        except OSError:
            pass
        finally:
            caller.close()

    def _exchange(self, caller):
        request = b""
        while not is_whole(request):
            received = caller.recv(65536)
            if not received:
                return False
            request += received
        cut = self.choose(request)
        if cut and cut.phase == "connect":
            return end(caller, None, cut)
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if cut and cut.phase in REQUEST_PHASES:
                server.sendall(request[: reach(request, cut)])
                time.sleep(0.15 * cut.fraction)
                return end(caller, server, cut)
            server.sendall(request)
            return self._answer(caller, server, request, cut)

    def _answer(self, caller, server, request, cut):
        answer, passed = b"", 0
        while not is_whole(answer):
            received = server.recv(65536)
            if not received:
                # Whatever is at an end here is at an end there, and a reset stays one.
                caller.sendall(answer[passed:])
                return end(caller, server, Cut("", 0, True))
            answer += received
            if cut is None:
                caller.sendall(received)
                passed = len(answer)
            elif cut.phase != "answer" and b"\r\n\r\n" in answer:
                place = reach(answer, cut)
                if place < len(answer):
                    caller.sendall(answer[:place])
                    return end(caller, server, cut)
        if cut:
            # All of it was taken off the server's hands.
            caller.sendall(answer[: max(0, len(answer) - 1 - int(cut.fraction * 20))])
            return end(caller, server, cut)
        self.learn(request, answer)
        return True


def end(caller, server, cut):
    for side in (caller, server):
        if side is not None:
            if cut.resets:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()
    return False


def reach(message, cut):
    """How many bytes pass before the cut."""
    head = message.index(b"\r\n\r\n") + 4
    if cut.phase.endswith("head"):
        return int(cut.fraction * (head - 1)) + 1
    if cut.phase.endswith("body"):
        return head + int(cut.fraction * max(0, len(message) - head - 1)) + 1
    return len(message)


def is_whole(message):
    head, separator, body = message.partition(b"\r\n\r\n")
    if not separator:
        return False
    if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return len(body) >= (int(length[1]) if length else 0)
