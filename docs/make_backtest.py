"""Counts what the shipped rules do over labelled logs, for the page of rules.

    python docs/make_backtest.py LOGS

LOGS is a folder with a manifest.json as `watchstep rules backtest` reads it. Each pack is tried
together with `generic`, as it is used; a rule that several packs hold is counted once.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchstep.core.grammar import Syntax, parse
from watchstep.postmortem.readers import open_logs
from watchstep.rules import load
from watchstep.rules.backtest import backtest
from watchstep.study.backtest_command import labelled
from watchstep_monitor.web.rule_history import FIGURES, mark_of

ROOT = Path(__file__).parents[1]
PACKS = ("ppo", "pretrain", "grpo")
TOLD = ("firings", "caught", "false_alarms", "median_lag_updates")


def main() -> None:
    """Write the figures."""
    document: dict[str, Any] = {"logs": {}, "healthy_updates": 0, "rules": {}}
    for pack in PACKS:
        rules = load([pack, "generic"])
        logs = list(open_logs([Path(sys.argv[1])], unreadable=_say))
        report = backtest(rules, labelled(iter(logs)))
        reported = [{rules.canonical(name) for name in log.names} for log in logs]
        roles = [{rules.role(name) for name in log.names} for log in logs]
        document["logs"] = dict(sorted(report.runs.items()))
        document["healthy_updates"] = report.healthy_updates
        for rule, row in zip(rules.rules, report.rows(), strict=True):
            # Where a rule is for each metric of a role, one of that role stands for `metric`.
            ways = [way - {"metric"} for way in needed(parse(rule.expr))]
            counts = {name: row[name] for name in TOLD}
            counts["tried"] = sum(
                any(way <= names for way in ways)
                and (not rule.each or bool(own.intersection(rule.each)))
                for names, own in zip(reported, roles, strict=True)
            )
            document["rules"].setdefault(mark_of(rule), {"rule": rule.name, **counts})
    path = ROOT / "monitor" / "watchstep_monitor" / "web" / FIGURES
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    counted = document["logs"]
    print(f"{path.relative_to(ROOT)}: {len(document['rules'])} rules over {counted}")  # noqa: T201


def needed(tree: Syntax) -> Iterator[frozenset[str]]:
    """Sets of metrics of which one must be reported for a condition to be told at all."""
    if tree.op == "metric":
        yield frozenset({str(tree.value)})
    elif tree.op == "or":
        for part in tree.parts:
            yield from needed(part)
    elif tree.op == "call" and tree.value == "known":
        # The first that is reported counts; a number at the end always is.
        for part in tree.parts:
            yield from needed(part)
    elif tree.op == "call" and tree.value in {"present", "missing", "fired"}:
        yield frozenset()
    else:
        for ways in itertools.product(*(list(needed(part)) for part in tree.parts)):
            yield frozenset().union(*ways)


def _say(path: Path, error: Exception) -> None:
    print(f"{path}: {error}", file=sys.stderr)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
