"""What `kill -9` costs, with the counts that the tests of the same stories are too short for.

python benchmarks/kills.py [--kills 200] [--what load|alerts|answered|all]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from story.killing import killed_after_alerts, killed_under_load


def main() -> None:
    """Print what was lost and what came twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--what", choices=["load", "alerts", "answered", "all"], default="all")
    chosen = parser.parse_args()
    stories = {
        "load": lambda folder: killed_under_load(folder, chosen.kills),
        # Five alerts a kill, so that there are as many alerts as kills asked for.
        "alerts": lambda folder: killed_after_alerts(folder, chosen.kills // 5),
        "answered": lambda folder: killed_after_alerts(
            folder, chosen.kills // 5, after_answer_s=1.0
        ),
    }
    for name, story in stories.items():
        if chosen.what in {name, "all"}:
            begun = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                counts = story(Path(folder))
            print(f"{counts} in {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
