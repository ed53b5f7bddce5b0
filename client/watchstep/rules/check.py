"""Every mistake in a set of rule files, for `watchstep rules check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watchstep.core.engine import RuleSet
from watchstep.core.rules import Rule
from watchstep.errors import RuleError
from watchstep.rules.examining import examine
from watchstep.rules.files import (
    packs,
    read_bytes,
    read_source,
    shipped_rules,
    unknown_rules,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking found.

    Attributes:
        rules: Rules that are right.
        mistakes: In the order of files and lines; each prints as `FILE:LINE: reason`.
    """

    rules: tuple[Rule, ...]
    mistakes: tuple[RuleError, ...]


def check(sources: Sequence[str]) -> Checked:
    """Read files, or packs by name, and tell everything that is wrong with them.

    A rule may name rules of the other files and of the packs that ship with watchstep.
    """
    rules: list[Rule] = []
    mistakes: list[RuleError] = []
    for source in sources:
        try:
            if source in packs():
                rules += read_source(source).rules
            else:
                file, errors = examine(read_bytes(source), source)
                rules += file.rules
                mistakes += errors
        except RuleError as error:
            mistakes.append(error)
    names = shipped_rules() | {name for rule in rules for name in (rule.name, *rule.formerly)}
    mistakes += unknown_rules(rules, names)
    if not mistakes:
        # Compiling finds what only the whole set can show, and proves that it can be loaded.
        distinct = {rule.name: rule for rule in rules}
        RuleSet(distinct.values(), absent=names - distinct.keys())
    return Checked(tuple(rules), tuple(mistakes))
