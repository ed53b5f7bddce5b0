"""Rule files and packs: from YAML in Prometheus' shape to a compiled rule set."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from watchstep.core.grammar import parse
from watchstep.core.rules import Alias, Rule, RuleFile
from watchstep.core.ruleset import RuleSet
from watchstep.errors import RuleError
from watchstep.rules.examining import examine
from watchstep.rules.strict_yaml import LARGEST_FILE_BYTES, Mapped
from watchstep.rules.trainers import vocabulary

_PACKS = Path(__file__).with_name("packs")
PARSED_PACKS = "packs.json"
"""What building a wheel makes of the packs, so that a trainer's start does not read YAML."""

AUTO = "auto"
"""In place of packs: every run is judged by those for its kind of training, and by `generic`."""
_ASKED_FOR = frozenset({"ppo-seed"})
"""Packs that judge only where they are asked for."""
_ALSO = {"supervised": ("supervised", "preference")}
"""A preference loss is minimised as any other, and judged by the same rules."""

VOCABULARY = "vocabulary"
"""The file of zones that every rule set shares."""

PACKS_TAG = "packs"
"""The tag by which a run tells the packs that its trainer judges it by."""


def packs() -> list[str]:
    """Names of the packs that ship with watchstep."""
    return [name for name in _shipped_files() if name != VOCABULARY]


def packs_named(text: str) -> tuple[str, ...]:
    """The shipped packs that a run's tag `packs` names, in order; empty for none.

    Args:
        text: Names with commas between them. What is no pack is passed over, since an older
            service may be told of a newer pack.
    """
    names = (name.strip() for name in text.split(","))
    shipped = packs()
    return tuple(dict.fromkeys(name for name in names if name in shipped))


@cache
def _shipped_files() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _PACKS.glob("*.yaml")))


def load(sources: Sequence[str | Path], roles: Mapping[str, str] | None = None) -> RuleSet:
    """Compile packs and rule files into one set.

    Args:
        sources: Names of packs, or paths of files. A rule of a later source replaces one of
            the same name of an earlier source.
        roles: Roles of metrics by name as reported, before those of the sources.

    Raises:
        RuleError: A source does not exist, or a file is wrong; the first mistake, with its line.
    """
    return combine([read_source(source) for source in spelled_out(sources)], roles)


@lru_cache(maxsize=32)
def loaded(sources: tuple[str, ...]) -> RuleSet:
    """The same, kept: compiling takes longer than reading a short log, of which fleets are."""
    return load(sources)


def judging(sources: Sequence[str | Path]) -> list[str | Path]:
    """The sources that judge a run for which somebody named these.

    Rule files add to the packs and never take them away: without a pack among them `AUTO` is
    joined, and beside any pack `generic`. Nothing named stays nothing.
    """
    named = [str(source) for source in sources]
    if not named or AUTO in named or "generic" in named:
        return list(sources)
    return ["generic" if any(name in packs() for name in named) else AUTO, *sources]


def spelled_out(sources: Sequence[str | Path]) -> list[str | Path]:
    """The sources, with the packs that `AUTO` stands for."""
    auto: list[str | Path] = [name for name in packs() if name not in _ASKED_FOR]
    return [part for source in sources for part in (auto if str(source) == AUTO else [source])]


@cache  # Reading the packs takes a second of a core where they are not shipped parsed.
def packs_for(family: str) -> tuple[str, ...]:
    """Names of the packs by which `AUTO` judges a run of that kind of training."""
    wanted = map(str, spelled_out([AUTO]))
    families = {name: read_source(name).family for name in wanted}
    return tuple(
        name for name, own in families.items() if not own or family in _ALSO.get(own, (own,))
    )


def combine(files: Iterable[RuleFile], more_roles: Mapping[str, str] | None = None) -> RuleSet:
    """Compile files that were read, together with the shared vocabulary.

    Args:
        files: A rule of a later one replaces one of the same name of an earlier one.
        more_roles: Roles of metrics beside those of the files, and before them.
    """
    rules: dict[str, Rule] = {}
    bands = {band.metric: band for band in read_source(VOCABULARY).bands}
    aliases: list[Alias] = []
    roles: dict[str, str] = {}
    family = ""
    files = list(files)
    several = len({file.family for file in files if file.family}) > 1
    for file in files:
        own = _ALSO.get(file.family, (file.family,)) if file.family and several else ()
        rules.update({rule.name: replace(rule, families=own) for rule in file.rules})
        bands.update({band.metric: band for band in file.bands})
        aliases = [*file.aliases, *aliases]
        roles.update(file.roles)
        family = "" if several else file.family or family
    names = rules.keys() | {name for rule in rules.values() for name in rule.formerly}
    for error in unknown_rules(rules.values(), names):
        raise error
    return RuleSet(
        rules.values(),
        bands.values(),
        aliases,
        roles={**roles, **(more_roles or {})},
        vocabulary=vocabulary(family),
    )


def unknown_rules(rules: Iterable[Rule], names: Container[str]) -> Iterator[RuleError]:
    """A mistake for every rule that names another which is not known.

    Being inhibited by a rule of a pack that is not loaded is none: it is never inhibited then.
    """
    for rule in rules:
        trees = [parse(text) for text in (rule.expr, rule.clear, rule.unless) if text is not None]
        named = {str(node.value) for tree in trees for node in tree.walk() if node.op == "rule"}
        missing = {name for name in named if name not in names}
        inhibitors = {name for name in rule.inhibited_by if name not in names}
        # To read all packs takes time, and those of the packs themselves are tested.
        if inhibitors and rule.source not in _shipped_files():
            missing |= inhibitors - shipped_rules()
        for name in sorted(missing):
            reason = f"{rule.name} names the rule {name!r}, which none of the loaded files has"
            yield RuleError(reason, line=rule.line, source=rule.source)


@cache
def shipped_rules() -> frozenset[str]:
    """Names of all rules in the packs that ship with watchstep, old ones included."""
    rules = [rule for name in packs() for rule in read_source(name).rules]
    return frozenset(name for rule in rules for name in (rule.name, *rule.formerly))


def read_source(source: str | Path) -> RuleFile:
    """Read one pack or file.

    Raises:
        RuleError: It does not exist, cannot be read, or is wrong.
    """
    name = str(source)
    if name not in _shipped_files():
        return read_text(read_bytes(name), name)
    return _shipped(name, (_PACKS / f"{name}.yaml").read_bytes())


@lru_cache(maxsize=32)
def _shipped(name: str, text: bytes) -> RuleFile:
    """A pack that ships with watchstep; its text is parsed once in a process."""
    made = _parsed_packs().get(name)
    # A pack that was edited where it is installed is read as it stands.
    parsed = Mapped.of(made["parsed"], name) if made and made["crc32"] == crc32(text) else None
    return _right(*examine(text, name, parsed))


@cache
def _parsed_packs() -> dict[str, Any]:
    """Content of `PARSED_PACKS`; empty where nobody has made it, as in an editable installation."""
    path = _PACKS / PARSED_PACKS
    return json.loads(path.read_bytes()) if path.is_file() else {}


def read_bytes(name: str) -> bytes:
    """Content of a rule file, or as much as shows that it is too long.

    Raises:
        RuleError: It does not exist or cannot be read.
    """
    try:
        path = Path(name)
        if not path.is_file():
            choices = ", ".join(packs())
            raise RuleError(
                f"no such file, and no pack of that name (packs: {choices})", source=name
            )
        with path.open("rb") as file:
            return file.read(LARGEST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RuleError(f"cannot be read: {reason}", source=name) from None


def read_text(text: bytes, source: str) -> RuleFile:
    """Read the content of a rule file.

    Args:
        text: YAML, UTF-8.
        source: What errors call it.

    Raises:
        RuleError: The first mistake, with its line.
    """
    return _right(*examine(text, source))


def _right(file: RuleFile, mistakes: Sequence[RuleError]) -> RuleFile:
    if mistakes:
        raise mistakes[0]
    return file
