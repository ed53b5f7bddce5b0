"""What a chart is drawn against: the thresholds of the rules, and the zones between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from watchstep.core.ruleset import RuleSet
from watchstep.core.thresholds import zones
from watchstep_monitor.service.run_state.run_cache import is_looked_at


def scales(rules: RuleSet, latest: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Zones and thresholds by metric, as the run reports its names, for its newest readings.

    A zone is the severity of the worst rule that would fire there by this reading alone: none is
    red where no alert would fire. Numbers that move with the run (a bound that depends on a count)
    are those of now; open ends of zones are None.
    """
    by_metric = {}
    for name in (each for each in latest if is_looked_at(rules, each)):
        lines = rules.thresholds(name, latest, parts=True)
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
            by_metric[name] = {
                "zones": [
                    {"from": _open(low), "to": _open(high), "zone": severity or "ok"}
                    for low, high, severity in zones(rules.thresholds(name, latest))
                ],
                "thresholds": thresholds,
            }
    return by_metric


def _open(edge: float) -> float | None:
    return edge if math.isfinite(edge) else None
