"""A variable is named for what it holds, not by a pronoun: `alert`, `checkpoint`, `match`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRONOUNS = {"found", "one", "ones", "told", "known", "asked", "said"}
FOLDERS = ("client", "monitor", "tests", "benchmarks", "deploy", "examples")


def _pronouns(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    # Fields of classes are public names, and some of them stand in files and answers.
    fields = {
        statement.target
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    named = [
        (node.lineno, node.id if isinstance(node, ast.Name) else node.arg)
        for node in ast.walk(tree)
        if node not in fields
        and (
            (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            or isinstance(node, ast.arg)
        )
    ]
    return [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for line, name in named
        if name.strip("_") in PRONOUNS
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_variable_is_named_by_a_pronoun(folder: str) -> None:
    assert [named for path in (ROOT / folder).rglob("*.py") for named in _pronouns(path)] == []
