"""Where the time of a post-mortem goes: reading the log, judging it, and the rest.

    python benchmarks/replay_cost.py [--updates 40000]

One JSONL log of 25 metrics, healthy, read and judged in one process. What it shows is why the
judging of logs is not vectorised: it is the smaller part, and a column at a time would need
the whole log in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from diagnosis_cost import least_s
from engine_cost import PACKS, folded, updates

from watchstep.postmortem.examination import examine
from watchstep.postmortem.readers import open_logs
from watchstep.rules import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=40_000)
    count = parser.parse_args().updates
    stream = updates(count)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run.jsonl"
        with log.open("w") as out:
            for update in stream:
                out.write(json.dumps({"step": update.step, **update.readings}) + "\n")
        reading = least_s(
            lambda: [sum(1 for _ in log_file.updates) for log_file in open_logs([log])], 3
        )
        whole = least_s(lambda: [examine(log_file) for log_file in open_logs([log])], 3)
    judging = least_s(folded(load(PACKS), stream), 3)
    for name, took in (("reading", reading), ("judging", judging), ("whole post-mortem", whole)):
        print(f"{name:20} {took:6.2f} s  {took / count * 1e6:6.1f} us an update")
    print(f"share of judging     {judging / whole:6.0%}")


if __name__ == "__main__":
    main()
