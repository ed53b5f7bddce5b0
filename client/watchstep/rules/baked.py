"""Packs that were parsed beforehand, so that a trainer's start does not pay for YAML.

`make packs` writes `packs/_baked.json`, and a test fails where it is not
current. Each entry carries the SHA-256 of the YAML it was made from: an edited pack is simply
read as YAML, and nothing stale can ever be used.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from watchstep.rules.strict_yaml import Mapped, read

FILE = "_baked.json"


def tree(name: str, text: bytes) -> Mapped:
    """The content of a pack's YAML, from the baked file where that is of this very text.

    Raises:
        RuleError: The YAML is wrong.
    """
    entry = _entries().get(name)
    if entry is None or entry["sha256"] != hashlib.sha256(text).hexdigest():
        return read(text, name)
    found = _thawed(entry["tree"], name)
    assert isinstance(found, Mapped)
    return found


def bake(folder: Path) -> str:
    """The baked file's content for the packs of a folder."""
    entries = {}
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_bytes()
        frozen = _frozen(read(text, path.stem))
        entries[path.stem] = {"sha256": hashlib.sha256(text).hexdigest(), "tree": frozen}
    return json.dumps(entries, separators=(",", ":"), sort_keys=True) + "\n"


@cache
def _entries() -> dict[str, Any]:
    entry = resources.files("watchstep.rules") / "packs" / FILE
    if not entry.is_file():
        return {}
    found: dict[str, Any] = json.loads(entry.read_bytes())
    return found


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapped):
        parts = {key: _frozen(part) for key, part in value.values.items()}
        return {"values": parts, "lines": value.lines, "line": value.line}
    return [_frozen(part) for part in value] if isinstance(value, list) else value


def _thawed(value: Any, source: str) -> Any:
    if isinstance(value, dict):
        parts = {key: _thawed(part, source) for key, part in value["values"].items()}
        return Mapped(parts, value["lines"], value["line"], source)
    return [_thawed(part, source) for part in value] if isinstance(value, list) else value


def main() -> None:
    """Write the baked file beside the packs."""
    folder = Path(str(resources.files("watchstep.rules") / "packs"))
    (folder / FILE).write_text(bake(folder), encoding="utf-8")
