"""Rules, zones and metric names as values; `watchstep.rules` reads them from files."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from watchstep.core.spans import Span
from watchstep.core.updates import Action, Severity

ZONE_NAMES = ("ok", "watch", "warning", "danger", "explosion")
"""From harmless to worst."""
ONE_UPDATE = Span(updates=1)
AT_ONCE = Span(updates=0)


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert of a rule file.

    Attributes:
        expr: The condition, in the rule language.
        each: Roles; the rule is one rule for every metric of these, which its expressions call
            `metric`. Empty for a rule that names its metrics itself.
        formerly: Names that the rule had before, which others may still use.
        hold: How long the condition must hold before the rule fires ("for" in the file).
        keep: How long it goes on firing after the condition last held ("keep_firing_for").
        clear: A condition that must hold before it may resolve, or None.
        unless: A condition under which the rule does not hold, or None.
        warmup: Updates of an attempt, or with `each` reports of the metric, before which the rule
            cannot hold.
        on_nan: What a NaN among its metrics does: "hold" leaves the rule as it is, "fire"
            counts as the condition holding.
        where: Tags the run must have; empty for every run.
        inhibited_by: Rules whose firing makes this one's notifications needless.
        families: Kinds of training whose runs it judges; empty for every run.
        annotations: summary, description, cause, runbook_url, reason, source: for people.
    """

    name: str
    expr: str
    group: str = ""
    severity: Severity = "warning"
    action: Action = Action.NONE
    hold: Span = ONE_UPDATE
    keep: Span = AT_ONCE
    clear: str | None = None
    unless: str | None = None
    warmup: int = 0
    on_nan: Literal["hold", "fire"] = "hold"
    where: Mapping[str, str] = field(default_factory=dict)
    inhibited_by: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    source: str = ""
    line: int = 0
    each: tuple[str, ...] = ()
    formerly: tuple[str, ...] = ()


def filled(text: str, metric: str, value: str) -> str:
    """An annotation for people: `{metric}` and `{value}` are those of the alert."""
    return text.replace("{metric}", metric or "a metric").replace("{value}", value)


@dataclass(frozen=True, slots=True)
class Bands:
    """Zones of one metric over the whole line, NaN included.

    `names[i]` holds from `edges[i-1]` (included) up to `edges[i]` (excluded), so that adjoining
    zones share an edge and every number is in exactly one.

    Attributes:
        metric: Canonical name.
        edges: Ascending.
        names: One more than there are edges, each of `ZONE_NAMES`.
        of: "value", "magnitude" (|x|), "bound" (|x| against the bound for the count in `beside`),
            "knee" (the number in `beside` takes the place of the first edge).
        beside: Another metric's canonical name; without its reading `fallback` is used.
        fallback: Number used where `beside` is not reported.
        by_rules: Zones that hold while a rule fires, by its name, for what one reading cannot
            show, such as a reward that has collapsed; the worst zone of all counts.
    """

    metric: str
    edges: tuple[float, ...]
    names: tuple[str, ...]
    of: Literal["value", "magnitude", "bound", "knee"] = "value"
    beside: str = ""
    fallback: float = math.nan
    by_rules: Mapping[str, str] = field(default_factory=dict)

    def zone(self, value: float, beside: float, firing: Collection[str] = ()) -> str:
        """Zone of a reading; whatever is not finite is an explosion.

        Args:
            beside: That of the metric `beside`, NaN where it is not known.
        """
        zones = [self._band(value, beside)]
        zones += [zone for rule, zone in self.by_rules.items() if rule in firing]
        return max(zones, key=ZONE_NAMES.index)

    def _band(self, value: float, beside: float) -> str:
        if value - value != 0.0:
            return "explosion"
        scale = beside if beside == beside else self.fallback
        if self.of == "bound":
            return self._against_bound(abs(value), scale)
        if self.of == "magnitude":
            value = abs(value)
        elif self.of == "knee" and scale == scale and value < max(scale, self.edges[0]):
            return self.names[0] if value < scale else self.names[1]
        return self._plain(value)

    def _against_bound(self, largest: float, count: float) -> str:
        """Beyond the bound for the count is the worst zone; the edges tell the rest apart.

        Where the bound lies below the edge of danger, everything within it is ordinary; where
        the count is not known, the edges keep their literal meaning.
        """
        if not count >= 2:
            return self._plain(largest)
        bound = math.sqrt(count - 1.0)
        if largest > bound * 1.01:
            return self.names[-1]
        if bound <= self.edges[1]:
            return self.names[0]
        return min(self._plain(largest), self.names[-2], key=ZONE_NAMES.index)

    def _plain(self, value: float) -> str:
        for edge, name in zip(self.edges, self.names, strict=False):
            if value < edge:
                return name
        return self.names[-1]


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name for a metric.

    Attributes:
        factor: What its reading is multiplied by, such as -1 for entropy against entropy loss.
    """

    name: str
    metric: str
    factor: float = 1.0


def canonical_form(rule: Rule) -> dict[str, Any]:
    """Everything that changes what a rule does, as plain JSON; texts for people excluded."""
    return {
        "name": rule.name,
        "expr": rule.expr,
        "severity": rule.severity,
        "action": rule.action.word,
        "hold": str(rule.hold),
        "keep": str(rule.keep),
        "clear": rule.clear,
        "unless": rule.unless,
        "warmup": rule.warmup,
        "on_nan": rule.on_nan,
        "where": dict(sorted(rule.where.items())),
        "inhibited_by": list(rule.inhibited_by),
        "each": list(rule.each),
        "families": list(rule.families),
    }


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What one file holds.

    Attributes:
        roles: Roles of metrics by name as reported, which nothing else overrides.
        family: The kind of training that the file is for, "" for any, see `watchstep.core.roles`.
    """

    source: str
    rules: tuple[Rule, ...]
    bands: tuple[Bands, ...]
    aliases: tuple[Alias, ...]
    roles: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
