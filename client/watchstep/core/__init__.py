"""The judgement itself: pure functions over values, standard library only."""

from __future__ import annotations

from typing import Literal


def engine_kind() -> Literal["compiled", "interpreted"]:
    """Whether the rule engine runs compiled by mypyc; an editable installation never does."""
    from watchstep.core import engine, evaluator, nodes, state

    files = [str(module.__file__) for module in (engine, evaluator, nodes, state)]
    return "interpreted" if any(file.endswith(".py") for file in files) else "compiled"
