"""Counts what the shipped rules do over labelled logs, for the page of rules.

    python docs/make_backtest.py LOGS

LOGS is a folder with a manifest.json as `watchstep rules backtest` reads it. Each pack is tried
together with `generic`, as it is used; a rule that several packs hold is counted once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from watchstep.postmortem.backtest_command import labelled
from watchstep.postmortem.readers import open_logs
from watchstep.rules import load
from watchstep.rules.backtest import backtest
from watchstep_monitor.web.record import FIGURES, mark_of

ROOT = Path(__file__).parents[1]
PACKS = ("ppo", "pretrain", "grpo")
TOLD = ("firings", "caught", "false_alarms", "median_lag_updates")


def main() -> None:
    """Write the figures."""
    document: dict[str, Any] = {"logs": {}, "healthy_updates": 0, "rules": {}}
    for pack in PACKS:
        rules = load([pack, "generic"])
        report = backtest(rules, labelled(open_logs([Path(sys.argv[1])], unreadable=_say)))
        document["logs"] = dict(sorted(report.runs.items()))
        document["healthy_updates"] = report.healthy_updates
        for rule, row in zip(rules.rules, report.rows(), strict=True):
            told = {name: row[name] for name in TOLD}
            document["rules"].setdefault(mark_of(rule), {"rule": rule.name, **told})
    path = ROOT / "monitor" / "watchstep_monitor" / "web" / FIGURES
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    counted = document["logs"]
    print(f"{path.relative_to(ROOT)}: {len(document['rules'])} rules over {counted}")  # noqa: T201


def _say(path: Path, error: Exception) -> None:
    print(f"{path}: {error}", file=sys.stderr)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
