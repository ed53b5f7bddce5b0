"""From the POST of a bad update to the receiver's socket, committed and synced in between.

    python benchmarks/alert_latency.py [--alerts 200] [--history 50]

The real service in its own process, SQLite with synchronous=FULL, the default packs, a webhook
receiver on the loopback interface. Each run first reports some healthy updates, then one with a
NaN loss; the clock runs from before its first byte is sent until the receiver has accepted the
connection and read the first bytes. The machine's own fdatasync is timed alternately: a commit
cannot be faster.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

from log_cost import readings, service


class Receiver:
    """Answers every POST with 200 and says when its first bytes came, and what it was."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.came: Queue[tuple[float, bytes]] = Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while head := connection.recv(65_536):
                begun = time.perf_counter()
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = head.partition(b"\r\n\r\n")[2]
                while len(body) < length:
                    body += connection.recv(65_536)
                self.came.put((begun, body))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def heard_of(self, run: str) -> float:
        """When the loss of a run was told; chance alone may raise a warning about the rest."""
        while True:
            at, body = self.came.get(timeout=30)
            if f'"{run}"'.encode() in body and b'"LossNonFinite"' in body:
                return at


def synced(folder: Path) -> float:
    """Milliseconds of one write of a page and fdatasync."""
    with (folder / "sync").open("ab") as file:
        file.write(bytes(4096))
        file.flush()
        begun = time.perf_counter()
        os.fdatasync(file.fileno())
        return (time.perf_counter() - begun) * 1e3


def post(
    connection: http.client.HTTPConnection, run: str, updates: list[dict[str, object]]
) -> None:
    """One batch, acknowledged."""
    body = json.dumps({"attempt": 1, "updates": updates})
    kind = {"content-type": "application/json"}
    connection.request("POST", f"/api/v1/runs/{run}/updates", body, kind)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 202:
        raise SystemExit(f"status {answer.status}")


def shown(name: str, took: list[float]) -> str:
    """One line of the table."""
    took = sorted(took)
    late = took[int(len(took) * 0.9)]
    return f"  {name:<42} p50 {statistics.median(took):7.1f} ms   p90 {late:7.1f} ms"


def main() -> None:
    """Print the latencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=200)
    parser.add_argument("--history", type=int, default=50)
    chosen = parser.parse_args()
    receiver, generator = Receiver(), random.Random(0)
    os.environ.update(
        WATCHSTEP_RECEIVERS__OPS__KIND="webhook",
        WATCHSTEP_RECEIVERS__OPS__URL=f"http://127.0.0.1:{receiver.port}/",
        WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS="127.0.0.0/8",
        WATCHSTEP_NOTIFY__RATE_PER_MINUTE="1000000",
    )
    latencies: list[float] = []
    answered: list[float] = []
    syncs: list[float] = []
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as url:
        place = urlsplit(url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port)
        for n in range(chosen.alerts):
            healthy = [
                {"seq": seq, "step": seq, "time": 1.7e9 + seq, "metrics": readings(generator)}
                for seq in range(1, chosen.history + 1)
            ]
            post(connection, f"run-{n}", healthy)
            bad = {**readings(generator), "train/policy_loss": "NaN"}
            seq = chosen.history + 1
            syncs.append(synced(Path(name)))
            begun = time.perf_counter()
            post(connection, f"run-{n}", [{"seq": seq, "step": seq, "time": 1.7e9, "metrics": bad}])
            answered.append((time.perf_counter() - begun) * 1e3)
            latencies.append((receiver.heard_of(f"run-{n}") - begun) * 1e3)
    print(f"{chosen.alerts} alerts, each after {chosen.history} healthy updates:")
    print(shown("POST to the receiver's socket", latencies))
    print(shown("POST to its own answer", answered))
    print(shown("fdatasync of one page, between the POSTs", syncs))


if __name__ == "__main__":
    main()
