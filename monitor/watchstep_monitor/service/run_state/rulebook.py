"""The rules that are live now, and how they are exchanged without a pause."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from watchstep.core.engine import RuleSet
from watchstep.core.rules import Rule
from watchstep.errors import RuleError
from watchstep.rules import PACKS_TAG, combine, packs, packs_named, read_source, read_text
from watchstep.rules.files import judging, read_bytes, spelled_out

log = logging.getLogger(__name__)

MOST_CHOICES = 64
"""Choices of packs kept compiled; there are few packs, but a tag is a stranger's text."""


class RuleBook:
    """Holds compiled rules; new ones replace them whole or not at all.

    A run is judged by the packs that its trainer chose, as its tag `packs` tells, or by those
    of the settings where it tells none; rule files of the settings judge every run.

    Attributes:
        rules: Those of a run that tells no packs.
        version: One more with every successful reload; runs compare it to switch.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Load the rules.

        Raises:
            RuleError: A file is missing or wrong.
        """
        self._paths = tuple(map(str, spelled_out(judging(paths))))
        self.version = 0
        self.reload()

    def reload(self) -> None:
        """Read the files again; on a bad file the old rules stay live.

        Raises:
            RuleError: Nothing was changed.
        """
        shipped = set(packs())
        texts = {path: read_bytes(path) for path in self._paths if path not in shipped}
        read = {
            path: read_text(texts[path], path) if path in texts else read_source(path)
            for path in self._paths
        }
        fresh = combine(read.values())
        self.rules, self.version = fresh, self.version + 1
        self._texts = texts
        self._files = tuple(file for path, file in read.items() if path not in shipped)
        self._by_packs: dict[tuple[str, ...], RuleSet] = {}

    def for_tags(self, tags: Mapping[str, str]) -> RuleSet:
        chosen = packs_named(tags.get(PACKS_TAG, ""))
        return (self._with(chosen) if chosen else self.rules).for_tags(tags)

    def sources(self, tags: Mapping[str, str]) -> tuple[str, ...]:
        """Packs and files of those rules, to be loaded by another process."""
        shipped = set(packs())
        chosen = packs_named(tags.get(PACKS_TAG, "")) or [
            path for path in self._paths if path in shipped
        ]
        return (*chosen, *(path for path in self._paths if path not in shipped))

    def texts(self, tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The same with texts, which are empty for packs.

        Trainers have the packs, and those of older versions read short answers only. A file of
        the operator's goes by its name without folders.
        """
        for source in self.sources(tags):
            text = self._texts.get(source)
            yield (source, "") if text is None else (Path(source).name, text.decode("utf-8"))

    def _with(self, chosen: tuple[str, ...]) -> RuleSet:
        rules = self._by_packs.get(chosen)
        if rules is None:
            if len(self._by_packs) >= MOST_CHOICES:
                self._by_packs.clear()
            rules = self._by_packs[chosen] = self._compiled(chosen)
        return rules

    def _compiled(self, chosen: tuple[str, ...]) -> RuleSet:
        try:
            return combine([*map(read_source, judging(chosen)), *self._files])
        except RuleError as error:
            # A file of the operator's that builds on a pack of the settings.
            log.warning("packs not used", extra={"packs": chosen, "reason": str(error)})
            return self.rules


def former_names(rules: RuleSet, name: str) -> tuple[str, ...]:
    rule = rule_named(rules, name)
    return () if rule is None else tuple(rule.formerly)


def rule_named(rules: RuleSet, name: str) -> Rule | None:
    at = rules.index.get(name)
    return None if at is None else rules.rules[at]
