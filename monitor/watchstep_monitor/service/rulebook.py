"""The rules that are live now, and how they are exchanged without a pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchstep.core.engine import RuleSet
from watchstep.core.rules import Rule
from watchstep.rules import load


class RuleBook:
    """Holds one compiled rule set; a new one replaces it whole or not at all.

    Attributes:
        version: One more with every successful reload; runs compare it to switch.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Load the rules.

        Raises:
            RuleError: A file is missing or wrong.
        """
        self._paths = tuple(paths)
        self.rules: RuleSet = load(list(self._paths))
        self.version = 1

    def reload(self) -> None:
        """Read the files again; on a bad file the old rules stay live.

        Raises:
            RuleError: Nothing was changed.
        """
        fresh = load(list(self._paths))
        self.rules, self.version = fresh, self.version + 1

    def for_tags(self, tags: Mapping[str, str]) -> RuleSet:
        """The rules for a run with these tags."""
        return self.rules.for_tags(tags)


def rule_named(rules: RuleSet, name: str) -> Rule | None:
    """A rule of the set, or None."""
    at = rules.index.get(name)
    return None if at is None else rules.rules[at]
