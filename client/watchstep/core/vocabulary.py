"""What names mean: the canonical name of a metric, and its role."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from watchstep.core.adversaries import is_adversarial
from watchstep.core.roles import Role, role_of, words_of
from watchstep.core.rules import Alias

MOST_NAMES = 20_000
"""Reported names that are remembered, over all runs of a set."""
LAST_RANK = 1_000_000
"""Of a name that only its role gives a canonical one: behind every name of the tables."""


@dataclass(frozen=True, slots=True)
class KnownName:
    """One name that one trainer logs.

    Attributes:
        name: As logged; `*` stands for an index or a name within it.
        metric: The canonical name, "" where there is none.
        factor: What its reading is multiplied by to be the canonical one.
    """

    name: str
    metric: str
    factor: float
    role: Role
    family: str


class Vocabulary:
    """Names of all known trainers, read for one kind of training.

    A name that a trainer of that family logs means what it means there. Any other name means what
    it means elsewhere: where that differs, the first listed canonical name, and the role that the
    words of the name say.

    Args:
        names: Of several alike the first listed counts first.
        family: "" where the kind of training is not known.
    """

    def __init__(self, names: Iterable[KnownName] = (), family: str = "") -> None:
        self.family = family
        self._names = tuple(names)
        self._exact: dict[str, list[tuple[int, KnownName]]] = {}
        self._patterns: list[tuple[int, KnownName]] = []
        for rank, row in enumerate(self._names):
            if "*" in row.name:
                self._patterns.append((rank, row))
            else:
                self._exact.setdefault(row.name, []).append((rank, row))

    def for_family(self, family: str) -> Vocabulary:
        """The same names, read for another kind of training."""
        return self if family == self.family else Vocabulary(self._names, family)

    def aliases(self) -> list[Alias]:
        """Every name that has another canonical one, but for patterns."""
        return [alias for name in self._exact for _, alias in self.aliases_of(name)]

    def aliases_of(self, name: str) -> list[tuple[int, Alias]]:
        """The canonical names of one name with their rank, the first listed first.

        Itself is none of them.
        """
        distinct: dict[str, tuple[int, Alias]] = {}
        for rank, row in self._rows(name):
            if row.metric and row.metric != name:
                alias = Alias(name, row.metric, row.factor)
                distinct.setdefault(row.metric, (rank, alias))
        return list(distinct.values())

    def role(self, name: str) -> Role:
        """The role of a name, "unknown" where neither a trainer nor its words say it."""
        by_words = role_of(name, self.family)
        roles = {
            row.role
            for _, row in self._rows(name)
            # Of another kind of training a word that says nothing by itself may mean anything.
            if by_words != "unknown" or "/" in name or row.family in {"", self.family}
        } - {"unknown"}
        return roles.pop() if len(roles) == 1 else by_words

    def families(self, name: str) -> set[str]:
        """The kinds of training whose trainers are known to log a name."""
        return {row.family for _, row in self._rows(name)} - {""}

    def _rows(self, name: str) -> Sequence[tuple[int, KnownName]]:
        """What is known of a name in this family, else in any, with ranks."""
        rows = self._exact.get(name) or [
            row for row in self._patterns if fnmatchcase(name, row[1].name)
        ]
        return [row for row in rows if row[1].family == self.family] or rows


_MEAN = re.compile(r"mean|average|avg|running|smoothed", re.IGNORECASE)
_TOTAL = re.compile(r"(?:^|[/.])(?:total_?)?loss$|loss_?total$", re.IGNORECASE)
_PERPLEXITY = re.compile(r"ppl|perplexity", re.IGNORECASE)
_MODEL = frozenset(("recon", "reconstruction", "rssm", "dyn", "rep", "elbo", "vae"))
_POLICY = frozenset(("approx", "policy", "actor", "ref", "reference"))
SOLE: Mapping[str, str] = {
    "loss": "train/loss",
    "eval_loss": "eval/loss",
    "grad_norm": "train/grad_norm",
    "reward": "rollout/ep_rew_mean",
}
"""The canonical name of a run's only metric of a role, where no trainer's table names one."""


def doubles(names: Collection[str], role: Callable[[str], str]) -> set[str]:
    """Perplexities beside a loss: its exponentials, which leap a thousandfold where it doubles."""
    losses = {name for name in names if role(name) in {"loss", "eval_loss"}}
    exponentials = {name for name in losses if _PERPLEXITY.search(name)}
    return exponentials if losses - exponentials else set()


def _main(role: str, names: Sequence[str], family: str = "") -> str:
    """The one of a role's metrics that stands for it, "" where none does; no adversary's loss.

    Of several losses it is the total, of rewards the mean.
    """
    is_total = role == "loss" and family in {"", "supervised"}
    says_so = _MEAN if role == "reward" else _TOTAL if is_total else None
    means = [name for name in names if says_so and says_so.search(name)]
    names = names if len(names) == 1 else means if len(means) == 1 else ()
    return next((name for name in names if not is_adversarial(name)), "")


class MetricNames:
    """What the names that runs report mean to a set of rules.

    Args:
        aliases: Other names for metrics, before those of the vocabulary.
        roles: Roles by name as reported or canonical, before those of the vocabulary.

    Attributes:
        sole: Canonical names of metrics that their role tells, and no table; see `of_run`.
    """

    def __init__(
        self, aliases: Iterable[Alias], roles: Mapping[str, str], vocabulary: Vocabulary
    ) -> None:
        self.given = tuple(aliases)
        self.roles = dict(roles)
        self.vocabulary = vocabulary
        self.sole: dict[str, str] = {}
        self._aliases: dict[str, list[Alias]] = {}
        self._ranks: dict[str, list[int]] = {}
        self._roles: dict[str, str] = {}

    def of_run(
        self, metrics: Iterable[str], standing: Mapping[str, str] = MappingProxyType({})
    ) -> MetricNames:
        """The same for one run: a metric that is the only one of its role is called by it.

        A trainer that nobody knows may call its loss `train_nll`; the rules about `train/loss`
        judge it all the same. Of several rewards the one mean over episodes is meant.

        Args:
            standing: What stood for its role until now, as in `sole`. It goes on where others
                of the role join it later: an evaluation's, say.
        """
        by_role: dict[str, list[str]] = {}
        for name in metrics:
            by_role.setdefault(self.role(name), []).append(name)
        taken = {self.canonical(name) for names in by_role.values() for name in names}
        chosen = (
            (_main(role, names, self.vocabulary.family), role)
            for role, names in by_role.items()
            if role in SOLE
        )
        sole = {
            name: SOLE[role]
            for name, role in chosen
            if name and SOLE[role] not in taken and not self.aliases_of(name)
        }
        held = {SOLE[role] for role in by_role.keys() & SOLE.keys()} - set(sole.values())
        sole |= {name: metric for name, metric in standing.items() if metric in held}
        modelled = self._of_a_model(by_role)
        if not (sole or modelled):
            return self
        names_of_run = MetricNames(self.given, modelled | self.roles, self.vocabulary)
        names_of_run.sole = sole
        return names_of_run

    def _of_a_model(self, by_role: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Plain KLs beside a world model's losses, as Dreamer's: of its latents and no policy."""
        words = {name: set(words_of(name)) for names in by_role.values() for name in names}
        if not any(_MODEL & each or {"model", "loss"} == each for each in words.values()):
            return {}
        return {name: "unknown" for name in by_role.get("kl", ()) if not words[name] & _POLICY}

    def aliases_of(self, name: str) -> list[Alias]:
        """The canonical names of a reported one, the first listed first."""
        if name not in self._aliases:
            self._look_up(name)
        return self._aliases[name]

    def targets(self, name: str) -> list[tuple[str, int, float]]:
        """The same with ranks, 1 the best, and factors: of several names the first listed wins."""
        aliases = self.aliases_of(name)
        ranks = self._ranks[name]
        return [(a.metric, rank, a.factor) for a, rank in zip(aliases, ranks, strict=True)]

    def canonical(self, name: str) -> str:
        """The vocabulary's name for a metric as some trainer reports it."""
        aliases = self.aliases_of(name)
        return aliases[0].metric if aliases else name

    def factor(self, name: str) -> float:
        """What a reading is multiplied by to be one of the canonical metric."""
        aliases = self.aliases_of(name)
        return aliases[0].factor if aliases else 1.0

    def role(self, name: str) -> str:
        """The role of a metric as reported: the user's word, else the vocabulary's."""
        if name not in self._roles:
            if len(self._roles) >= MOST_NAMES:
                self._roles.clear()
            given = self.roles.get(name) or self.roles.get(self.canonical(name))
            self._roles[name] = given or self.vocabulary.role(name)
        return self._roles[name]

    def _look_up(self, name: str) -> None:
        if len(self._aliases) >= MOST_NAMES:
            self._aliases.clear()
            self._ranks.clear()
        rows = [(rank, alias) for rank, alias in enumerate(self.given, 1) if alias.name == name]
        behind = len(self.given) + 1
        rows += [(behind + rank, alias) for rank, alias in self.vocabulary.aliases_of(name)]
        distinct: dict[str, tuple[int, Alias]] = {}
        if name in self.sole:
            rows.append((LAST_RANK, Alias(name, self.sole[name], 1.0)))
        for rank, alias in rows:
            distinct.setdefault(alias.metric, (rank, alias))
        self._aliases[name] = [alias for _, alias in distinct.values()]
        self._ranks[name] = [rank for rank, _ in distinct.values()]
