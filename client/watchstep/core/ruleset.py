"""Compiled rules: what to evaluate, and how reported names map to what rules look at."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import cached_property
from operator import itemgetter

from watchstep.core.compiling import compile_rules
from watchstep.core.grammar import Syntax
from watchstep.core.rules import Alias, Bands, Rule, canonical_form
from watchstep.core.silence import clocked
from watchstep.errors import RuleError

MOST_PLANS = 64
"""Distinct sets of metric names remembered a rule set; a trainer has a handful."""


class Plan:
    """How one set of reported names maps to the slots, worked out once.

    Attributes:
        names: Reported names in order.
        present: Slots that they fill.
        matches: For every glob list of the program, the positions of the names that match.
        calm: For every glob list, what `nonfinite` is while every reading is finite: 0.0, or
            NaN where no name matches.
    """

    __slots__ = ("_pick", "_scaled", "calm", "matches", "names", "present")

    def __init__(self, rules: RuleSet, names: tuple[str, ...]) -> None:
        self.names = names
        best: dict[int, tuple[int, int, float]] = {}
        for position, name in enumerate(names):
            for slot, rank, factor in rules.targets(name):
                if slot not in best or rank < best[slot][0]:
                    best[slot] = (rank, position, factor)
        self.present = frozenset(best)
        # One pick in C beats a loop; what is absent takes the NaN behind the last reading, and
        # two extra picks make the result a tuple however few slots there are.
        absent = len(names)
        slots = range(len(rules.program.slots))
        at = [best[slot][1] if slot in best else absent for slot in slots]
        self._pick = itemgetter(*at, absent, absent)
        self._scaled = [(slot, factor) for slot, (_, _, factor) in best.items() if factor != 1.0]
        self.matches = [
            [at for at, name in enumerate(names) if rules.matches(name, patterns)]
            for patterns in rules.program.globs
        ]
        self.calm = [0.0 if positions else math.nan for positions in self.matches]

    def lay(self, readings: list[float]) -> tuple[float, ...]:
        """Values in slot order, NaN where nothing was reported, and two NaN more.

        Args:
            readings: In the order of the names; a NaN is put behind them.
        """
        readings.append(math.nan)
        picked: tuple[float, ...] = self._pick(readings)
        if not self._scaled:
            return picked
        values = list(picked)
        for slot, factor in self._scaled:
            values[slot] *= factor
        return tuple(values)


class RuleSet:
    """Compiled rules, zones and metric names. Immutable; one serves any number of runs.

    Args:
        rules: In the order in which they are reported. Names must differ.
        bands: Zones, one `Bands` a metric.
        aliases: Other names for metrics; of several reported ones the first listed wins, and
            the canonical name itself beats them all.
        absent: Names of rules that others may ask about although they are not in the set,
            since they watch other runs; they never fired.

    Raises:
        RuleError: A rule cannot be compiled, or two have one name.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        bands: Iterable[Bands] = (),
        aliases: Iterable[Alias] = (),
        absent: Iterable[str] = (),
    ) -> None:
        self.rules = tuple(rules)
        self.bands = {band.metric: band for band in bands}
        self.aliases = tuple(aliases)
        self.index = {rule.name: at for at, rule in enumerate(self.rules)}
        if len(self.index) < len(self.rules):
            names = [rule.name for rule in self.rules]
            twice = next(name for name in names if names.count(name) > 1)
            raise RuleError(f"two rules are called {twice!r}")
        self.program = compile_rules(self.rules, absent)
        self.slot = {name: at for at, name in enumerate(self.program.slots)}
        self._aliases: dict[str, list[tuple[str, int, float]]] = {}
        for rank, alias in enumerate(self.aliases, start=1):
            self._aliases.setdefault(alias.name, []).append((alias.metric, rank, alias.factor))
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._by_tags: dict[tuple[str, ...], RuleSet] = {}

    @cached_property
    def clocked(self) -> dict[int, Syntax]:
        """The trees of the rules about silence, by index."""
        trees = {at: clocked(self.rules[at]) for at in self.program.clocked}
        return {at: tree for at, tree in trees.items() if tree is not None}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes what the rules do, in hex."""
        import hashlib
        import json

        named = [asdict(alias) for alias in self.aliases]
        text = json.dumps([[canonical_form(rule) for rule in self.rules], named], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def for_tags(self, tags: Mapping[str, str]) -> RuleSet:
        """The rules whose `where` the tags satisfy; the set itself when that is all."""
        kept = tuple(
            rule.name
            for rule in self.rules
            if all(tags.get(key) == value for key, value in rule.where.items())
        )
        if len(kept) == len(self.rules):
            return self
        if kept not in self._by_tags:
            chosen = [rule for rule in self.rules if rule.name in set(kept)]
            others = self.index.keys() - set(kept)
            self._by_tags[kept] = RuleSet(chosen, self.bands.values(), self.aliases, others)
        return self._by_tags[kept]

    def canonical(self, name: str) -> str:
        """The vocabulary's name for a metric as some trainer reports it."""
        found = self._aliases.get(name)
        return found[0][0] if found else name

    def targets(self, name: str) -> list[tuple[int, int, float]]:
        """Slots that a reported name may fill, with its rank there (0 is best) and factor."""
        direct = [(self.slot[name], 0, 1.0)] if name in self.slot else []
        return direct + [
            (self.slot[metric], rank, factor)
            for metric, rank, factor in self._aliases.get(name, [])
            if metric in self.slot
        ]

    def matches(self, name: str, patterns: Sequence[str]) -> bool:
        """Whether a reported name, or its canonical one, matches any pattern."""
        canonical = self.canonical(name)
        return any(fnmatchcase(name, glob) or fnmatchcase(canonical, glob) for glob in patterns)

    def zone(
        self, metric: str, readings: Mapping[str, float], firing: Collection[str] = ()
    ) -> str | None:
        """Zone of a metric among the readings of an update, or None where it has none.

        Args:
            metric: As reported or canonical.
            readings: The update's readings, which hold `metric` and, where known, the count or
                epsilon that its zones scale with.
            firing: Names of the rules that fire, see `Bands.by_rules`.
        """
        band = self.bands.get(self.canonical(metric))
        value = readings.get(metric)
        if band is None or value is None:
            return None
        beside = readings.get(band.beside, math.nan) if band.beside else math.nan
        return band.zone(value * self._factor(metric), beside, firing)

    def _factor(self, name: str) -> float:
        found = self._aliases.get(name)
        return found[0][2] if found else 1.0

    def plan(self, names: tuple[str, ...]) -> Plan:
        """The remembered mapping of one set of names."""
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[names] = Plan(self, names)
        return plan
