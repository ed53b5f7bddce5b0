"""A set of rules with the names that runs report, and how those names fill what rules look at."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import TypeVar

from watchstep.core.calm import Calm
from watchstep.core.compiling import SUBJECT, Instance, compile_rules, tree_of
from watchstep.core.evaluator import Evaluator, Schedule
from watchstep.core.families import family_of
from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Alias, Bands, Rule, canonical_form
from watchstep.core.silence import clocked
from watchstep.core.thresholds import Direction, Threshold, lines
from watchstep.core.vocabulary import MetricNames, Vocabulary, doubles
from watchstep.errors import RuleError

_Life = TypeVar("_Life")
_METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]*")
_OF_SUBJECT = re.compile(r", (?:of|beside) [^()]*\)$")
MOST_PLANS = 64
"""Distinct sets of metric names remembered a rule set; a trainer has a handful."""
MOST_EXPANSIONS = 256
"""Distinct sets of judged metrics remembered a rule set; runs of one trainer share one."""
MOST_OF_A_ROLE = 64
"""Metrics of one role that `each` rules judge in a run, the first ones that come."""
_OF_THE_GUARD = ("guard/", "checkpoint/")
_BESIDE_THE_GUARD = ("train/grad_norm", "train/advantages_")
"""What the first release's guard said of a step in an update of its own."""


class Plan:
    """How one set of reported names maps to the slots, worked out once.

    Attributes:
        present: Slots that they fill.
        pick: Values in slot order from the readings, and a NaN behind them for what is absent.
        scaled: Slots whose values are multiplied, and by what.
        watched: Those of the watched slots among them, as positions in `Program.watched`.
        sighted: `Program.sighted` among those.
        judged: Instances of rules that are judged at such an update.
        matches: For every glob list of the program, the positions of the names that match.
        globs: For every glob list, what `nonfinite` is while every reading is finite: 0.0, or
            NaN where no name matches.
        logged: Whether the trainer logged it, and not the guard alone.
        logged_beside: The same of an update that a guard's event came with.
        newcomers: Names that an `each` rule is for and that the set has no instances for.
        not_judged: How many more there are, beyond `MOST_OF_A_ROLE`.
    """

    __slots__ = (
        "_schedule",
        "_uses",
        "globs",
        "judged",
        "logged",
        "logged_beside",
        "matches",
        "names",
        "newcomers",
        "not_judged",
        "pick",
        "present",
        "scaled",
        "sighted",
        "watched",
    )

    def __init__(self, rules: RuleSet, names: tuple[str, ...]) -> None:
        self.names = names
        program = rules.program
        best: dict[int, tuple[int, int, float]] = {}
        for position, name in enumerate(names):
            for slot, rank, factor in rules.targets(name):
                if slot not in best or rank < best[slot][0]:
                    best[slot] = (rank, position, factor)
        self.present = frozenset(best)
        # Two extra picks make the result a tuple however few slots there are.
        absent = len(names)
        at = [best[slot][1] if slot in best else absent for slot in range(len(program.slots))]
        self.pick = itemgetter(*at, absent, absent)
        self.scaled = [(slot, factor) for slot, (_, _, factor) in best.items() if factor != 1.0]
        self.matches = [
            [at for at, name in enumerate(names) if rules.matches(name, patterns)]
            for patterns in program.globs
        ]
        self.globs = [0.0 if positions else math.nan for positions in self.matches]
        self.watched = [at for at, slot in enumerate(program.watched) if slot in best]
        self.sighted = [at for at in self.watched if at in program.sighted]
        self.judged = [at for at, pace in enumerate(program.paces) if pace < 0 or pace in best]
        own = [name for name in names if not name.startswith(_OF_THE_GUARD)]
        self.logged = bool(own)
        self.logged_beside = not all(name.startswith(_BESIDE_THE_GUARD) for name in own)
        self.newcomers, self.not_judged = rules.newcomers(names)
        self._uses = 0
        self._schedule: Schedule | None = None

    def schedule(self, evaluator: Evaluator) -> Schedule | None:
        """What is to be done at calm updates; worked out once these names have come again."""
        self._uses += 1
        if self._uses == 2:
            exact = self.present - {slot for slot, _ in self.scaled}
            calm = Calm(self.present, exact, self.globs)
            self._schedule = calm.schedule(evaluator, self.judged)
        return self._schedule


class RuleSet:
    """Compiled rules, zones and metric names. Immutable; one serves any number of runs.

    Rules with `each` are compiled for the metrics of a run, see `expanded`; `rules` and `index`
    have them as they were written.

    Args:
        rules: In the order in which they are reported. Names must differ.
        bands: Zones, one `Bands` a metric.
        aliases: Other names for metrics, before those of the vocabulary; of several reported
            ones the first listed wins, and the canonical name itself beats them all.
        absent: Names of rules that others may ask about although they are not in the set,
            since they watch other runs; they never fired.
        roles: Roles of metrics by name as reported or canonical; the vocabulary says the rest.
        vocabulary: What trainers call their metrics.

    Attributes:
        metrics: Those that the rules with `each` were compiled for.
        family: The kind of training that it was compiled for; "" where any rule of one family
            alone stands aside.
        instances: What the program judges: every other rule, and those once for each metric.
        clocked: The trees of the rules about silence, by index in `rules`.

    Raises:
        RuleError: A rule cannot be compiled, or two have one name.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        bands: Iterable[Bands] = (),
        aliases: Iterable[Alias] = (),
        absent: Iterable[str] = (),
        roles: Mapping[str, str] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        rules_as_written = tuple(rules)
        self.absent = frozenset(absent)
        self.renamed = _renamed(rules_as_written)
        self.rules = tuple(self._with_present_names(rule) for rule in rules_as_written)
        self.index = {rule.name: at for at, rule in enumerate(self.rules)}
        if len(self.index) < len(self.rules):
            names = [rule.name for rule in self.rules]
            twice = next(name for name in names if names.count(name) > 1)
            raise RuleError(f"two rules are called {twice!r}")
        self.bands = {band.metric: band for band in bands}
        self.names = MetricNames(aliases, roles or {}, vocabulary or Vocabulary())
        self.clocked = _clocked(self.rules)
        self._by_tags: dict[tuple[str, ...], RuleSet] = {}
        if self.each_roles:
            # A mistake in a rule that no run has a metric for is told at once, too.
            stand_ins = [Instance(rule, SUBJECT if rule.each else "") for rule in self.rules]
            compile_rules(stand_ins, self.absent, self.renamed)
        self._compile((), self.names.vocabulary.family)
        # Shared with every expansion of this set.
        self._expansions: dict[tuple[str, ...], RuleSet] = {}
        self._families_by_names: dict[frozenset[str], str] = {}
        self._names_by_family = {self.family: self.names}
        self._unexpanded = self

    def _compile(self, metrics: tuple[str, ...], family: str) -> None:
        self.metrics, self.family = metrics, family
        present = [rule for rule in self.rules if _is_for(rule, family)]
        self.instances = _instances(present, metrics, self.role)
        self.places = {
            (instance.rule.name, instance.subject): at for at, instance in enumerate(self.instances)
        }
        elsewhere = {rule.name for rule in self.rules if not _is_for(rule, family)}
        never_fired = self.absent | {rule.name for rule in self.rules if rule.each} | elsewhere
        self.program = compile_rules(self.instances, never_fired, self.renamed)
        self.slot = {name: at for at, name in enumerate(self.program.slots)}
        self._plans: dict[tuple[str, ...], Plan] = {}

    def _with_present_names(self, rule: Rule) -> Rule:
        if not self.renamed.keys() & set(rule.inhibited_by):
            return rule
        present = [new for name in rule.inhibited_by for new in self.renamed.get(name, (name,))]
        return replace(rule, inhibited_by=tuple(dict.fromkeys(present)))

    @cached_property
    def each_roles(self) -> frozenset[str]:
        """Roles that some rule is for."""
        return frozenset(role for rule in self.rules for role in rule.each)

    @cached_property
    def aliases(self) -> tuple[Alias, ...]:
        """Other names for metrics, but for patterns; the first listed counts first."""
        return (*self.names.given, *self.names.vocabulary.aliases())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes what the rules do, in hex."""
        import hashlib
        import json

        parts = [
            [canonical_form(rule) for rule in self.rules],
            [asdict(alias) for alias in self.names.given],
            self.names.roles,
            self.names.vocabulary.family,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def looks_at(self, name: str) -> bool:
        """Whether any rule, for whatever kind of training, looks at a metric as reported."""
        canonical = {name, *(alias.metric for alias in self.names.aliases_of(name))}
        return bool(canonical & self._looked_at) or self.role(name) in self.each_roles

    @cached_property
    def _looked_at(self) -> frozenset[str]:
        texts = (text for rule in self.rules for text in (rule.expr, rule.unless, rule.clear))
        trees = (parse(text) for text in texts if text is not None)
        return frozenset(
            str(node.value) for tree in trees for node in tree.walk() if node.op == "metric"
        )

    @cached_property
    def families(self) -> frozenset[str]:
        """Kinds of training that some rules are for and others are not."""
        return frozenset(family for rule in self.rules for family in rule.families)

    def stage_label(self, rule: str) -> str:
        """The label `stage` of the rule of that name, "" where there is none."""
        at = self.index.get(rule)
        return "" if at is None else self.rules[at].labels.get("stage", "")

    def family_for(self, names: Collection[str]) -> str:
        """The kind of training that the names of a run's metrics speak for, "" where none does."""
        key = frozenset(names)
        family = self._families_by_names.get(key)
        if family is None:
            if len(self._families_by_names) >= MOST_EXPANSIONS:
                self._families_by_names.clear()
            own = self._names_for("")
            family = family_of(names, own.role, own.vocabulary.families)
            self._families_by_names[key] = family
        return family

    def expanded(
        self,
        metrics: Iterable[str],
        family: str | None = None,
        standing: Mapping[str, str] = MappingProxyType({}),
    ) -> RuleSet:
        """The set with one instance of every `each` rule for every of these metrics of its role.

        Args:
            metrics: Names as reported, in any order; those that no such rule is for are left out.
            family: The kind of training whose rules judge; None for that of this set.
            standing: Metrics that stood for their role until now, see `MetricNames.of_run`.
        """
        family = self.family if family is None else family
        names = self._names_for(family)
        of_roles = {name for name in metrics if names.role(name) in self.each_roles}
        judged = tuple(sorted(of_roles - doubles(of_roles, names.role)))
        if not judged and family == self._unexpanded.family:
            return self._unexpanded
        key = (family, *judged, *map(" ".join, sorted(standing.items())))
        expansion = self._expansions.get(key)
        if expansion is None:
            if len(self._expansions) >= MOST_EXPANSIONS:
                self._expansions.clear()
            expansion = copy(self._unexpanded)
            expansion.names = names.of_run(judged, standing)
            RuleSet._compile(expansion, judged, family)
            self._expansions[key] = expansion
        return expansion

    def _names_for(self, family: str) -> MetricNames:
        if family not in self._names_by_family:
            own = self._unexpanded.names
            self._names_by_family[family] = MetricNames(
                own.given, own.roles, own.vocabulary.for_family(family)
            )
        return self._names_by_family[family]

    def newcomers(self, names: Iterable[str]) -> tuple[tuple[str, ...], int]:
        """Names that an `each` rule is for and that this set has no instances for.

        Returns:
            As many as there is room for, and how many more there are.
        """
        if not self.each_roles:
            return (), 0
        present, counts = set(self.metrics), Counter(map(self.role, self.metrics))
        admitted: list[str] = []
        beyond = 0
        names = tuple(names)
        present |= doubles({*present, *names}, self.role)
        for name in names:
            role = self.role(name)
            if role not in self.each_roles or name in present:
                continue
            if counts[role] < MOST_OF_A_ROLE:
                counts[role] += 1
                admitted.append(name)
            else:
                beyond += 1
        return tuple(admitted), beyond

    def former_key(self, key: str, keys: Collection[str]) -> str:
        """What a window was kept under before the rule that has it was one with `each`.

        Such a rule calls a metric as the trainer does, and others call it by its canonical name.

        Returns:
            A key of `kept`, "" where there is none.
        """
        bare = _OF_SUBJECT.sub(")", key)
        canonical = _METRIC.sub(self._canonical_match, bare)
        return next((former for former in (bare, canonical) if former in keys), "")

    def _canonical_match(self, match: re.Match[str]) -> str:
        alias = next(iter(self.names.aliases_of(match[0])), None)
        subject = match[0] in self.metrics and alias is not None and alias.factor == 1.0
        return alias.metric if alias is not None and subject else match[0]

    def lives_of(
        self, lives: dict[str, tuple[int, _Life]], metric_of: Callable[[_Life], str]
    ) -> dict[int, tuple[int, _Life]]:
        """Status and life of every instance that has one among those kept, which are used up.

        An instance takes that of its own name and metric, else that of its rule's name or of
        one that the rule had formerly: where that rule named a metric in its reason, the
        instance for it takes it, else the first instance.
        """
        by_instance: dict[int, tuple[int, _Life]] = {}
        if not lives:
            return by_instance
        for (name, subject), at in self.places.items():
            formers = (name, *self._old_names(self.rules[self.index[name]]))
            for own in (f"{former}{{{subject}}}" if subject else former for former in formers):
                if own in lives and at not in by_instance:
                    by_instance[at] = lives.pop(own)
        for rule in self.rules:
            ats = [at for at, instance in enumerate(self.instances) if instance.rule is rule]
            for former in (rule.name, *self._old_names(rule)):
                if not rule.each or not ats or former not in lives:
                    continue
                named = self.canonical(metric_of(lives[former][1]))
                about = [at for at in ats if self.canonical(self.instances[at].subject) == named]
                at = (about or ats)[0]
                if at not in by_instance:
                    by_instance[at] = lives.pop(former)
        return by_instance

    def _old_names(self, rule: Rule) -> list[str]:
        """What a rule was called, but for names that others have now."""
        return [name for name in rule.formerly if name not in self.index]

    def for_tags(self, tags: Mapping[str, str]) -> RuleSet:
        """The rules whose `where` the tags satisfy; the set itself when that is all."""
        if not self._has_where:
            return self
        chosen_names = tuple(
            rule.name
            for rule in self.rules
            if all(tags.get(key) == value for key, value in rule.where.items())
        )
        if len(chosen_names) == len(self.rules):
            return self
        if chosen_names not in self._by_tags:
            chosen = [rule for rule in self.rules if rule.name in set(chosen_names)]
            others = self.index.keys() - set(chosen_names)
            self._by_tags[chosen_names] = RuleSet(
                chosen,
                self.bands.values(),
                self.names.given,
                self.absent | others,
                self.names.roles,
                self.names.vocabulary,
            )
        return self._by_tags[chosen_names]

    @cached_property
    def _has_where(self) -> bool:
        return any(rule.where for rule in self.rules)

    def names_of(self, name: str) -> tuple[str, ...]:
        """The rules that a name means: itself, or those that were called so before."""
        return self.renamed.get(name, (name,))

    def role(self, name: str) -> str:
        """The role of a metric as reported: the user's word, else the vocabulary's."""
        return self.names.role(name)

    def canonical(self, name: str) -> str:
        """The vocabulary's name for a metric as some trainer reports it."""
        return self.names.canonical(name)

    def targets(self, name: str) -> list[tuple[int, int, float]]:
        """Slots that a reported name may fill, with its rank there (0 is best) and factor."""
        direct = [(self.slot[name], 0, 1.0)] if name in self.slot else []
        return direct + [
            (self.slot[metric], rank, factor)
            for metric, rank, factor in self.names.targets(name)
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
            readings: The update's readings, which hold `metric` and, where known, the count or
                epsilon that its zones scale with.
            firing: Names of the rules that fire, see `Bands.by_rules`.
        """
        band = self.bands.get(self.canonical(metric))
        value = readings.get(metric)
        if band is None or value is None:
            return None
        beside = readings.get(band.beside, math.nan) if band.beside else math.nan
        return band.zone(value * self.names.factor(metric), beside, firing)

    def thresholds(
        self, metric: str, readings: Mapping[str, float] | None = None, *, parts: bool = False
    ) -> list[Threshold]:
        """The lines that rules draw on the chart of a metric.

        Args:
            readings: The newest, for lines that move with another metric.
            parts: Whether conditions draw a line that hold only beside others.
        """
        latest = dict(readings or {})
        latest = {self.canonical(name): value for name, value in latest.items()} | latest
        canonical, factor = self.canonical(metric), self.names.factor(metric)
        thresholds = []
        for rule in self.rules:
            if rule.each and self.role(metric) not in rule.each:
                continue
            for name, value, direction in lines(
                tree_of(rule.expr, metric if rule.each else ""), latest, parts=parts
            ):
                if name == metric:
                    thresholds.append(Threshold(value, rule.severity, direction, rule.name))
                elif name == canonical and factor:
                    turned: Direction = "below" if direction == "above" else "above"
                    side = direction if factor > 0 else turned
                    thresholds.append(Threshold(value / factor, rule.severity, side, rule.name))
        return thresholds

    def plan(self, names: tuple[str, ...]) -> Plan:
        """The remembered mapping of one set of names."""
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[names] = Plan(self, names)
        return plan


def _clocked(rules: Sequence[Rule]) -> dict[int, Syntax]:
    """The trees of the rules about silence, by index."""
    trees = {at: clocked(rule) for at, rule in enumerate(rules)}
    return {at: tree for at, tree in trees.items() if tree is not None}


def _is_for(rule: Rule, family: str) -> bool:
    return not rule.families or family in rule.families


def _instances(
    rules: Sequence[Rule], metrics: Sequence[str], role: Callable[[str], str]
) -> tuple[Instance, ...]:
    instances = []
    for rule in rules:
        if rule.each:
            instances += [Instance(rule, name) for name in metrics if role(name) in rule.each]
        else:
            instances.append(Instance(rule))
    return tuple(instances)


def _renamed(rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """Old names of rules, and what they are called now; a name that is still taken is none."""
    present = {rule.name for rule in rules}
    renamed: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        for old in rule.formerly:
            if old not in present:
                renamed[old] = (*renamed.get(old, ()), rule.name)
    return renamed
