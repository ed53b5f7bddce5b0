"""Kill `watchstep run` and `watchstep follow` at random moments, and count what the service has.

    python benchmarks/outside_kills.py [--kills 200] [--state outside-kills.jsonl]

Followers of one growing log are killed with SIGKILL and started again until it has ended: then the
service must have every line once. `run` is killed with its command at work, once the service has
its first line: after a replay of its spool the service must have once every line that was printed
two seconds before. What is printed while its rules are loaded waits in memory alone. Each kill is
a line of the state file, so that a run that is stopped goes on where it was. Exits 1 if a line is
lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from outside.kit_outside import WATCHSTEP, environment, wrapped
from service.http_kit import Client, served
from watchstep.sender.replay import replay

KILLS_A_LOG = 4
LINES = 120
JUST_PRINTED_S = 2.0
"""What was printed so lately may be lost with `run`: rows wait for those that go with them."""

TRAINING = """
import sys, time
for step in range(1, 1_000_000):
    print(f"step {step}: loss {1.0 / step:.6f}", flush=True)
    with open(sys.argv[1], "a") as file:
        file.write(f"{time.time()}\\n")
    time.sleep(0.01)
"""


def steps_of(client: Client, run: str) -> Counter[int]:
    """How often the service has each step of a run."""
    answer = client.get(f"/runs/{run}/series?metric=loss&points=100000")
    points = answer.json["points"] if answer.status == 200 else []
    return Counter(point["step"] for point in points)


def compared(steps: Counter[int], wanted: range) -> dict[str, int]:
    """What is missing and what is there more than once."""
    doubled = sum(count - 1 for count in steps.values())
    return {"lines": len(wanted), "lost": len(set(wanted) - set(steps)), "doubled": doubled}


def grow(log: Path, chance: random.Random, grown: threading.Event) -> None:
    """Write a log in bursts, some of which end inside a line."""
    text = "".join(f"step {step}: loss {1.0 / step:.6f}\n" for step in range(1, LINES + 1))
    while text:
        length = chance.randint(1, 200)
        with log.open("a") as file:
            file.write(text[:length])
        text = text[length:]
        time.sleep(chance.random() * 0.8)
    grown.set()


def follow_killed(client: Client, url: str, folder: Path, seed: int) -> dict[str, int]:
    """Kill followers of one log, and let the last one read to its end."""
    chance, grown = random.Random(seed), threading.Event()
    log = folder / f"log-{seed}.txt"
    command = [*WATCHSTEP, "follow", str(log), "--run", f"followed-{seed}"]
    settings = environment(WATCHSTEP_URL=url, WATCHSTEP_DIR=str(folder / "spool"))
    log.touch()
    threading.Thread(target=grow, args=(log, chance, grown), daemon=True).start()
    for _ in range(KILLS_A_LOG):
        before = steps_of(client, f"followed-{seed}")
        with subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL) as follower:
            # On a busy machine a fixed time would kill each before it has read a line.
            while not grown.is_set() and steps_of(client, f"followed-{seed}") == before:
                time.sleep(0.05)
            time.sleep(chance.random())
            follower.kill()
    grown.wait()
    subprocess.run([*command, "--until-idle", "2"], env=settings, check=True)
    return compared(steps_of(client, f"followed-{seed}"), range(1, LINES + 1))


def run_killed(client: Client, url: str, folder: Path, seed: int) -> dict[str, int]:
    """Kill `run`, and send what it left."""
    chance, spool = random.Random(seed), folder / f"spool-{seed}"
    printed = folder / f"printed-{seed}"
    command = wrapped([sys.executable, "-c", TRAINING, str(printed)], "--run", f"run-{seed}")
    settings = environment(WATCHSTEP_URL=url, WATCHSTEP_DIR=str(spool))
    with subprocess.Popen(
        command, cwd=folder, env=settings, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not steps_of(client, f"run-{seed}"):
            time.sleep(0.1)
        time.sleep(JUST_PRINTED_S + chance.random() * 3)
        process.kill()
        killed = time.time()
    time.sleep(0.2)
    outcome = replay(spool, url=url, token=None)
    assert outcome.failure is None, outcome.failure
    times = [float(line) for line in printed.read_text().split()]
    settled = sum(at < killed - JUST_PRINTED_S for at in times)
    return compared(steps_of(client, f"run-{seed}"), range(1, settled + 1))


def earlier(state: Path) -> list[dict[str, Any]]:
    """What was counted before this start."""
    return [json.loads(line) for line in state.read_text().splitlines()] if state.exists() else []


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--state", type=Path, default=Path("outside-kills.jsonl"))
    chosen = parser.parse_args()
    results = earlier(chosen.state)
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "s") as service:
        folder, url = Path(name), f"http://127.0.0.1:{service.client.port}"
        os.environ.pop("WATCHSTEP_RUN", None)
        while sum(result["kills"] for result in results) < chosen.kills:
            seed = len(results)
            kind = "follow" if seed % 2 else "run"
            counts = (follow_killed if seed % 2 else run_killed)(service.client, url, folder, seed)
            kills = KILLS_A_LOG if seed % 2 else 1
            results.append({"kind": kind, "seed": seed, "kills": kills, **counts})
            with chosen.state.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
    for kind in ("run", "follow"):
        of_kind = [result for result in results if result["kind"] == kind]
        total = {
            name: sum(result[name] for result in of_kind)
            for name in ("kills", "lines", "lost", "doubled")
        }
        print(f"{kind:8} {total}")
    sys.exit(1 if any(result["lost"] or result["doubled"] for result in results) else 0)


if __name__ == "__main__":
    main()
