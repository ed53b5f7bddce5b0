"""Packs that were read and compiled beforehand, so that a trainer's start pays for neither.

`make packs` writes the modules in `made`, and a test fails where they are not current. Each
carries a checksum of what it was made from: an edited pack is simply read as YAML and compiled,
and nothing stale can ever be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any
from zlib import crc32

from watchstep.core.program import Program
from watchstep.core.rules import Rule
from watchstep.rules.baked.made import FILES, PROGRAMS

__all__ = ["FILES", "content", "key", "program", "program_name"]


def content(name: str, text: bytes) -> Any:
    """The module with what a shipped file says, None where it was not made of this very text."""
    if name not in FILES:
        return None
    made = _made(f"pack_{name}")
    return made if crc32(text) == made.TEXT else None


def program(sources: Sequence[str], rules: Iterable[Rule]) -> Program | None:
    """What a row of packs was compiled to, None where that was not of these very rules."""
    name = program_name(sources)
    if name not in PROGRAMS:
        return None
    made = _made(f"program_{name}")
    found: Program = made.PROGRAM
    return found if key(rules) == made.RULES else None


def program_name(sources: Sequence[str]) -> str:
    """What the program of a row of packs is called; with none a run is not judged at all."""
    return "_with_".join(sources) or "nothing"


def key(rules: Iterable[Rule]) -> int:
    """A checksum of all that a program depends on."""
    parts = [
        (rule.name, rule.expr, rule.unless, rule.clear, rule.warmup, rule.on_nan) for rule in rules
    ]
    return crc32(repr(parts).encode())


def _made(name: str) -> Any:
    return import_module(f"watchstep.rules.baked.made.{name.replace('-', '_')}")
