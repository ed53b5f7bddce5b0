"""Packs read and compiled beforehand say and do exactly what their YAML says."""

from __future__ import annotations

import json
import random

import pytest

from watchstep.core.compiling import compile_rules
from watchstep.core.engine import RuleSet, State, step
from watchstep.core.updates import Update
from watchstep.rules import baked, load, packs, read_source, read_text
from watchstep.rules.baked.made import PROGRAMS
from watchstep.rules.baked.making import MADE, PACKS, modules
from watchstep.rules.examining import examine
from watchstep.rules.files import unknown_rules

ROWS = [name.split("_with_") for name in PROGRAMS if name != "nothing"]


def test_the_baked_packs_are_current() -> None:
    made = {path.name: path.read_text() for path in MADE.glob("*.py")}

    assert made == modules(), "run `make packs`"


@pytest.mark.parametrize("name", baked.FILES)
def test_a_baked_pack_is_what_its_yaml_says(name: str) -> None:
    file, mistakes = examine((PACKS / f"{name}.yaml").read_bytes(), name)

    assert mistakes == []
    assert repr(read_source(name)) == repr(file)


def test_an_edited_pack_is_read_as_yaml() -> None:
    text = b"groups: [{name: g, rules: [{alert: Mine, expr: my/metric > 1}]}]"

    assert [rule.name for rule in read_text(text, "ppo").rules] == ["Mine"]


@pytest.mark.parametrize("row", ROWS, ids="+".join)
def test_packs_are_loaded_without_compiling_them(row: list[str]) -> None:
    rules = load(row)

    assert rules.program is baked.program(row, rules.rules)
    assert list(unknown_rules(rules.rules, rules.index)) == []


def test_a_run_that_is_not_judged_needs_no_compiler_either() -> None:
    assert load([]).program is baked.program([], [])


def test_every_pack_has_a_program_beside_generic() -> None:
    assert {row[0] for row in ROWS} == set(packs())


def test_rules_that_differ_from_the_packs_are_compiled_anew() -> None:
    rules = load(["ppo", "generic"]).rules

    assert baked.program(["ppo", "generic"], rules[1:]) is None
    assert baked.program(["ppo"], rules) is None
    assert baked.program(["own.yaml", "generic"], rules) is None


@pytest.mark.parametrize("row", ROWS, ids="+".join)
def test_a_baked_program_judges_as_one_compiled_anew(row: list[str]) -> None:
    baked_set = load(row)
    anew = RuleSet(
        baked_set.rules,
        baked_set.bands.values(),
        baked_set.aliases,
        program=compile_rules(baked_set.rules),
    )
    chance = random.Random(1)
    states = [State(baked_set), State(anew)]

    for seq in range(1, 120):
        readings = {
            name: chance.choice([0.0, 1e-6, 0.01, 0.5, 3.0, 150.0, float("nan")])
            for name in baked_set.program.slots
            if chance.random() < 0.9
        }
        update = Update(seq, seq, float(seq), readings)
        told = [step(state.rules, state, update)[1] for state in states]
        assert repr(told[0]) == repr(told[1])

    assert any(state.firing() for state in states)
    assert json.dumps(states[0].snapshot()) == json.dumps(states[1].snapshot())
