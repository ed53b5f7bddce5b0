"""Writes the modules in `made`: what every pack says, and what the usual rows compile to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from zlib import crc32

from watchstep.core.compiling import written
from watchstep.core.rules import RuleFile
from watchstep.rules.baked import key, program_name
from watchstep.rules.examining import examine
from watchstep.rules.files import VOCABULARY

PACKS = Path(__file__).parents[1] / "packs"
MADE = Path(__file__).parent / "made"
_HEAD = '''"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors
'''
_PACK = """
from math import nan

from watchstep.core.rules import Alias, Bands, Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Action
"""
_PROGRAM = """
from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
"""


def modules() -> dict[str, str]:
    """File name and content of every module in `made`.

    Raises:
        RuleError: A pack is wrong.
    """
    texts = {path.stem: path.read_bytes() for path in PACKS.glob("*.yaml")}
    files = {name: _read(name, texts[name]) for name in sorted(texts)}
    # The pack `generic` joins every other in the trainer.
    rows: list[tuple[str, ...]] = [(), ("generic",)]
    rows += [(name, "generic") for name in files if name not in {VOCABULARY, "generic"}]
    names = [program_name(row) for row in rows]
    index = f"\nFILES = {tuple(files)!r}\nPROGRAMS = {tuple(names)!r}\n"
    found = {"__init__.py": _HEAD + index}
    for name, file in files.items():
        found[f"pack_{name.replace('-', '_')}.py"] = _pack(file, crc32(texts[name]))
    for row, name in zip(rows, names, strict=True):
        chosen = [files[source] for source in row]
        found[f"program_{name.replace('-', '_')}.py"] = _program(chosen)
    return found


def _read(name: str, text: bytes) -> RuleFile:
    file, mistakes = examine(text, name)
    for mistake in mistakes:
        raise mistake
    return file


def _pack(file: RuleFile, checksum: int) -> str:
    parts = {"RULES": file.rules, "BANDS": file.bands, "ALIASES": file.aliases}
    tuples = [f"{name} = (\n{_lines(values)})\n" for name, values in parts.items()]
    return "".join([_HEAD, _PACK, f"\nTEXT = {checksum}\n", *tuples])


def _program(files: Iterable[RuleFile]) -> str:
    rules = list({rule.name: rule for file in files for rule in file.rules}.values())
    program, text = written(rules)
    given = "".join(f"    {name}={_literal(value)},\n" for name, value in program.items())
    made = f"\n\nPROGRAM = Program(\n{given}    advance=advance,\n)\n"
    return f"{_HEAD}{_PROGRAM}RULES = {key(rules)}\n\n\n{text}{made}"


def _lines(values: Iterable[Any]) -> str:
    return "".join(f"    {_literal(value)},\n" for value in values)


def _literal(value: Any) -> str:
    """Python for a value; of facts only what is not their default."""
    match value:
        case type():
            return value.__name__
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case float() if not math.isfinite(value):
            return "nan" if value != value else str(value)
        case tuple():
            return f"({''.join(f'{_literal(part)}, ' for part in value)})"
        case _ if is_dataclass(value):
            return f"{type(value).__name__}({', '.join(_differing(value))})"
    return repr(value)


def _differing(value: Any) -> list[str]:
    found = []
    for field in fields(value):
        part = getattr(value, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if repr(part) != repr(default):
            found.append(f"{field.name}={_literal(part)}")
    return found


def main() -> None:
    """Write them."""
    made = modules()
    for path in MADE.glob("*.py"):
        path.unlink()
    for name, text in made.items():
        (MADE / name).write_text(text, encoding="utf-8")
