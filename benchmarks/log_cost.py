"""What one `watch.log` of 20 floats costs the training loop, against json.dumps + append + flush.

    python benchmarks/log_cost.py [--updates 20000] [--paced 600]

Default pack, spool written. Four states of the service: none configured, up, refusing
connections, and taking them without a word. Tight loop, and paced at 5 ms, where caches are
cold and everything costs more. Figures are microseconds in the calling thread; the reference
runs in the same process and state of the machine. CPU is that of the whole process, sender and
acknowledged delivery included; bytes are those of request bodies. Then a loop that computes for
10 ms, without the hook, again without, and with it, in turns; and what a fresh process takes to
begin and end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import watchstep
from watchstep.core import engine_kind

NAMES = [
    "train/policy_loss", "train/value_loss", "train/entropy_loss", "train/approx_kl",
    "train/clip_fraction", "train/explained_variance", "train/learning_rate", "train/clip_range",
    "train/grad_norm", "train/grad_norm_max", "train/advantages_std_raw",
    "train/advantages_mean_raw", "train/advantages_norm_max_abs", "train/advantages_count",
    "train/loss", "train/std", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "my/own",
]  # fmt: skip


def readings(generator: random.Random) -> dict[str, float]:
    """A healthy update of 20 floats."""
    update = {name: generator.random() * 0.1 for name in NAMES}
    update["train/advantages_count"] = 2048.0
    update["train/learning_rate"] = 3e-4
    update["train/advantages_std_raw"] = 0.3 + generator.random()
    update["time/fps"] = 1000 + 100 * generator.random()
    update["train/advantages_norm_max_abs"] = 3.0 + generator.random()
    update["rollout/ep_rew_mean"] = 100 + 20 * generator.random()
    return update


def timed(
    call: Callable[[dict[str, float], int], object], updates: int, pace_s: float
) -> list[float]:
    """Microseconds of each call."""
    generator = random.Random(0)
    took: list[float] = []
    due = time.perf_counter()
    for number in range(updates):
        update = readings(generator)
        if pace_s:
            due += pace_s
            time.sleep(max(0.0, due - time.perf_counter()))
        begun = time.perf_counter_ns()
        call(update, number)
        took.append((time.perf_counter_ns() - begun) / 1000)
    return took


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """A real service on a free port."""
    command = [sys.executable, "-m", "watchstep", "serve", "--port", "0", "--data-dir", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().split()[-1]
        finally:
            process.terminate()
            process.wait(20)


def show(name: str, took: list[float], reference: float) -> None:
    """One line of the table."""
    took = sorted(took)
    middle, late = statistics.median(took), took[int(len(took) * 0.99)]
    print(f"  {name:<34} p50 {middle:8.1f}   p99 {late:8.1f}   {middle / reference:5.2f}x")


@contextmanager
def bodies() -> Iterator[list[int]]:
    """The sizes of what is sent, after compression."""
    sizes: list[int] = []
    whole = http.client.HTTPConnection.request

    def request(self: http.client.HTTPConnection, *args: object, **kwargs: object) -> None:
        headers = args[3]
        assert isinstance(headers, dict)
        sizes.append(int(headers["Content-Length"]))
        whole(self, *args, **kwargs)  # type: ignore[arg-type]

    http.client.HTTPConnection.request = request  # type: ignore[method-assign]
    try:
        yield sizes
    finally:
        http.client.HTTPConnection.request = whole  # type: ignore[method-assign]


def compute(seconds: float) -> None:
    """Work of a fixed amount, about so long; not a sleep, which would hide what is added."""
    total = 0.0
    for number in range(int(seconds * STEPS_PER_S)):
        total += number * 0.5


STEPS_PER_S = 20_000_000


def step_times(log: Callable[[dict[str, float], int], object] | None, steps: int) -> list[float]:
    """Milliseconds of each step of a loop that computes, with the hook or without."""
    generator = random.Random(1)
    took: list[float] = []
    for number in range(steps):
        update = readings(generator)
        begun = time.perf_counter()
        compute(0.010)
        if log is not None:
            log(update, number)
        took.append((time.perf_counter() - begun) * 1e3)
    return took


def loops(steps: int) -> None:
    """A/A and A/B of a 10 ms loop, in turns so that a slow phase meets all alike."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        with service(folder / "data") as url:
            watch = watchstep.init(run="bench-loop", url=url, directory=folder / "spool")
            kinds: dict[str, list[float]] = {"no hook": [], "no hook again": [], "hook": []}
            for _ in range(5):
                for kind, took in kinds.items():
                    log = (lambda u, n: watch.log(u, step=n)) if kind == "hook" else None
                    took.extend(step_times(log, steps // 5))
            watch.finish()
    base = statistics.median(kinds["no hook"])
    for kind, took in kinds.items():
        middle = statistics.median(took)
        print(f"  {kind:<34} p50 {middle:8.3f} ms {(middle / base - 1) * 100:+6.2f} %")


NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
FRESH = """
import sys, tempfile, time
{before}
begun = time.perf_counter()
import watchstep
imported = time.perf_counter()
watch = watchstep.init(run="fresh", directory=tempfile.mkdtemp(), url="http://127.0.0.1:9")
ready = time.perf_counter()
watch.log({{"loss": 1.0}})
logged = time.perf_counter()
watch.finish()
print((imported - begun) * 1e3, (ready - imported) * 1e3, (time.perf_counter() - logged) * 1e3)
"""


def fresh(before: str, times: int = 7) -> None:
    """What a process that never saw watchstep takes to begin and end; the least of some.

    From compiled modules, as every installation has them: where the environment forbids Python
    to write them, each process would compile them anew, which took twice as long.
    """
    environment = {key: text for key, text in os.environ.items() if key != NO_BYTECODE}
    command = [sys.executable, "-c", FRESH.format(before=before)]
    runs = []
    with tempfile.TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for _ in range(times + 1):
            output = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            ).stdout
            runs.append([float(word) for word in output.split()])
        # The first one compiled them.
        del runs[0]
    best = [min(column) for column in zip(*runs, strict=True)]
    print(
        f"  {before or 'nothing imported before':<34} import {best[0]:.1f} ms,"
        f" init {best[1]:.1f} ms, finish {best[2]:.1f} ms"
    )


def measure(updates: int, pace_s: float) -> None:
    """All states at one pace."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "reference.jsonl").open("w") as file:

            def reference(update: dict[str, float], number: int) -> None:
                file.write(json.dumps({"step": number, **update}) + "\n")
                file.flush()

            begun_s = time.process_time()
            took = timed(reference, updates, pace_s)
            reference_cpu_s = time.process_time() - begun_s
        base = statistics.median(took)
        show("json.dumps + append + flush", took, base)
        (folder / "data").mkdir()
        with service(folder / "data") as url, socket.create_server(("127.0.0.1", 0)) as hole:
            silent = f"http://127.0.0.1:{hole.getsockname()[1]}"
            for state, target in (
                ("no service", None),
                ("service up", url),
                ("service refuses", "http://127.0.0.1:9"),
                ("service is a black hole", silent),
            ):
                before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                begun = time.perf_counter()
                watch = watchstep.init(
                    run=f"bench-{state.replace(' ', '-')}", url=target, directory=folder / "spool"
                )
                init_ms = (time.perf_counter() - begun) * 1e3
                begun_s = time.process_time()
                with bodies() as sizes:
                    took = timed(lambda u, n, w=watch: w.log(u, step=n), updates, pace_s)  # type: ignore[misc]
                    delivered = state == "service up" and watch.flush(30.0)
                    cpu_s = time.process_time() - begun_s
                show(f"watch.log, {state}", took, base)
                size = f", {sum(sizes) / updates:.0f} B an update sent" if delivered else ""
                print(f"    CPU {cpu_s / reference_cpu_s:.2f}x of the reference's{size}")
                begun = time.perf_counter()
                watch.finish()
                exit_s = time.perf_counter() - begun
                grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
                print(
                    f"    init {init_ms:.1f} ms, finish {exit_s:.2f} s, memory +{grown_mib:.1f} MiB"
                )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--paced", type=int, default=600)
    chosen = parser.parse_args()
    for key in [key for key in os.environ if key.startswith("WATCHSTEP_")]:
        del os.environ[key]
    print(f"engine {engine_kind()}")
    print(f"tight loop, {chosen.updates} updates of 20 floats, microseconds:")
    measure(chosen.updates, 0.0)
    print(f"paced at 5 ms, {chosen.paced} updates:")
    measure(chosen.paced, 0.005)
    print("a loop that computes for 10 ms, service up:")
    loops(500)
    print("a fresh process, the best of seven, service refuses:")
    fresh("")
    fresh("import torch")


if __name__ == "__main__":
    main()
