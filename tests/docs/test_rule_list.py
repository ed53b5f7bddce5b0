"""The page of all rules is written from the packs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_says_what_the_packs_say() -> None:
    spec = importlib.util.spec_from_file_location("make_rule_list", DOCS / "make_rule_list.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)

    assert maker.made() == (DOCS / "rule-list.md").read_text("utf-8"), (
        "run: python docs/make_rule_list.py"
    )
