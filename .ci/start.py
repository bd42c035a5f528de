"""From start to listening, and memory when idle, of the release binary."""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SLOWEST = 0.050
LARGEST = 25_000_000

BINARY = sys.argv[1]


def started(state):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHATURDATA_")}
    began = time.monotonic()
    proxy = subprocess.Popen(
        [BINARY, "--listen", f"127.0.0.1:{port}", "--state-dir", state],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while proxy.poll() is None and time.monotonic() < began + 10:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return proxy, time.monotonic() - began
        time.sleep(0.0005)
    sys.exit(f"it does not listen; its exit code: {proxy.poll()}")


def resident(proxy):
    for line in pathlib.Path(f"/proc/{proxy.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    sys.exit("its memory cannot be read")


times = []
memory = 0
with tempfile.TemporaryDirectory() as state:
    for _ in range(7):
        proxy, took = started(state)
        times.append(took)
        time.sleep(0.3)
        memory = max(memory, resident(proxy))
        proxy.terminate()
        if proxy.wait(timeout=15) != 0:
            sys.exit(f"SIGTERM ended it with {proxy.returncode}")
took = statistics.median(times)
print(f"start to listening: {took * 1000:.0f} ms, below {SLOWEST * 1000:.0f} ms")
print(f"memory when idle: {memory / 1e6:.1f} MB, below {LARGEST / 1e6:.0f} MB")
sys.exit(took >= SLOWEST * (1 if "FULL" in os.environ else 3) or memory >= LARGEST)
