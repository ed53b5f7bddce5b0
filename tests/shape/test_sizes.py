"""Size caps: what does not fit on a screen or two is two things."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    [
        *ROOT.glob("client/watchstep/**/*.py"),
        *ROOT.glob("monitor/watchstep_monitor/**/*.py"),
    ]
)
LONGEST_FILE = 520
LONGEST_FUNCTION = 60


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _length_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    length = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        length -= docstring.end_lineno - docstring.lineno + 1
    return length


def test_there_are_sources_to_measure() -> None:
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_stay_within_the_caps(path: Path) -> None:
    text = path.read_text()

    assert len(text.splitlines()) <= LONGEST_FILE
    too_long = {
        function.name: length
        for function in _functions(ast.parse(text))
        if (length := _length_without_docstring(function)) > LONGEST_FUNCTION
    }
    assert too_long == {}


@pytest.mark.parametrize("package", ["client", "monitor"])
def test_each_root_holds_exactly_one_package_and_a_readme(package: str) -> None:
    entries = {
        entry.name
        for entry in (ROOT / package).iterdir()
        if entry.name != "__pycache__" and not entry.name.endswith(".egg-info")
    }

    name = "watchstep" if package == "client" else "watchstep_monitor"
    assert entries == {name, "README.md"}


def test_no_module_is_called_utils() -> None:
    assert [
        path.name for path in SOURCES if path.stem in {"utils", "helpers", "common", "misc"}
    ] == []
