"""What a chart is drawn against: the thresholds of the rules, and the zones between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watchstep.core.ruleset import RuleSet
from watchstep.core.thresholds import Threshold
from watchstep_monitor.service.run_state.records import SEVERITIES


def scales(rules: RuleSet, latest: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Zones and thresholds by metric, as the run reports its names, for its newest readings.

    A zone is the severity of the worst rule that would fire there by this reading alone: none is
    red where no alert would fire. Numbers that move with the run (a bound that depends on a count)
    are those of now; open ends of zones are None.
    """
    by_metric = {}
    for name in latest:
        lines = rules.thresholds(name, latest)
        if lines:
            thresholds = [
                {
                    "rule": line.rule,
                    "severity": line.severity,
                    "op": ">" if line.direction == "above" else "<",
                    "value": line.value,
                }
                for line in lines
            ]
            by_metric[name] = {"zones": list(_zones(lines)), "thresholds": thresholds}
    return by_metric


def _zones(lines: Sequence[Threshold]) -> Iterator[dict[str, Any]]:
    edges = sorted({line.value for line in lines})
    for low, high in itertools.pairwise([-math.inf, *edges, math.inf]):
        worst = max(
            (SEVERITIES.index(line.severity) + 1 for line in lines if _covers(line, low, high)),
            default=0,
        )
        yield {"from": _open(low), "to": _open(high), "zone": ("ok", *SEVERITIES)[worst]}


def _covers(line: Threshold, low: float, high: float) -> bool:
    """Whether the stretch between two neighbouring edges lies beyond the line."""
    return low >= line.value if line.direction == "above" else high <= line.value


def _open(edge: float) -> float | None:
    return edge if math.isfinite(edge) else None
