"""Packs parsed beforehand say exactly what their YAML says."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from watchstep.rules import baked, packs, read_text
from watchstep.rules.strict_yaml import read

FOLDER = Path(str(resources.files("watchstep.rules") / "packs"))


def test_the_baked_packs_are_current() -> None:
    assert (FOLDER / baked.FILE).read_text() == baked.bake(FOLDER), "run `make packs`"


@pytest.mark.parametrize("name", packs())
def test_a_baked_pack_is_what_its_yaml_says(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_bytes()

    assert baked.tree(name, text) == read(text, name)


def test_an_edited_pack_is_read_as_yaml() -> None:
    text = b"groups: [{name: g, rules: [{alert: Mine, expr: my/metric > 1}]}]"

    assert [rule.name for rule in read_text(text, "ppo").rules] == ["Mine"]
