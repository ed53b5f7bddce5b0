"""Write the dashboards' JSON from their description.

Without arguments it writes `dashboards/*.json`; with `--check` it writes nothing and exits 1 if
one of them is out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from description import DASHBOARDS
from shapes import to_json

FOLDER = Path(__file__).parent / "dashboards"


def main(check: bool) -> int:
    """Write, or only compare; returns the exit code."""
    stale = []
    for dashboard in DASHBOARDS:
        path = FOLDER / f"{dashboard.uid}.json"
        text = json.dumps(to_json(dashboard), indent=2) + "\n"
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text, "utf-8")
    for name in stale:
        sys.stdout.write(f"{name}: {'out of date' if check else 'written'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
