"""Rules of the service that judge in the trainer too, with the network down as well."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from watchstep.boundary import Boundary
from watchstep.core.engine import RuleSet
from watchstep.core.rules import Rule, RuleFile
from watchstep.core.updates import Action
from watchstep.hook.options import Options
from watchstep.rules import combine, packs, read_source, read_text
from watchstep.rules.files import spelled_out

MOST_BYTES = 1024 * 1024
"""Of all rule texts of a service together."""


class ServiceRules:
    """What the service judges by and this trainer's own code does not.

    The sender's thread brings them and compiles them; the trainer's thread takes them. They are
    kept beside the spool, for a start without the network.
    """

    def __init__(self, options: Options, boundary: Boundary) -> None:
        self._options = options
        self._boundary = boundary
        self._path = options.directory / "rules" / f"{options.run}.json"
        self.compiled: RuleSet | None = None

    def remember(self) -> None:
        if self._options.obey_commands and self._path.is_file():
            self._boundary.survive(self._compile, json.loads(self._path.read_bytes()))

    def receive(self, rules: Mapping[str, Any]) -> None:
        """Take the service's answer, `{"fingerprint", "files": [{"source", "text"}]}`."""
        if self._options.obey_commands:
            self._boundary.survive(self._compile, rules)
            self._boundary.survive(self._keep, rules)

    def take(self) -> RuleSet | None:
        compiled, self.compiled = self.compiled, None
        return compiled

    def _compile(self, rules: Mapping[str, Any]) -> None:
        own = [read_source(source) for source in spelled_out(self._options.rules)]
        names = {rule.name for file in own for rule in file.rules}
        files = [
            dataclasses.replace(
                file, rules=tuple(_asked(rule) for rule in file.rules if rule.name not in names)
            )
            for file in self._others(rules, {file.source for file in own})
        ]
        if any(file.rules for file in files):
            # Of rules that ask for the same the first is named: the trainer's own.
            everything = combine([*own, *files], self._options.roles)
            self.compiled = everything.for_tags(self._options.tags)

    def _others(self, rules: Mapping[str, Any], own: set[str]) -> Iterator[RuleFile]:
        """Files that this trainer does not judge by anyhow; packs come by name alone."""
        size_bytes = 0
        for file in rules.get("files", ()):
            source, text = str(file["source"]), str(file["text"]).encode()
            size_bytes += len(text)
            if source in own or size_bytes > MOST_BYTES:
                continue
            if text:
                yield read_text(text, source)
            elif source in packs():
                yield read_source(source)

    def _keep(self, rules: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(f".{os.getpid()}.tmp")
        written.write_text(json.dumps(rules), encoding="utf-8")
        written.replace(self._path)


def _asked(rule: Rule) -> Rule:
    """A rule of the service, which may ask for a skip or a halt and nothing else."""
    if rule.action is Action.ROLLBACK:
        return dataclasses.replace(rule, action=Action.HALT)
    return dataclasses.replace(rule, action=Action.NONE) if rule.action is Action.PIN else rule
