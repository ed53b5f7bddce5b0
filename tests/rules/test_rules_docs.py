"""docs/rules.md against the code that it describes."""

import re
from dataclasses import fields
from pathlib import Path

from watchstep.core import grammar
from watchstep.core.functions import FUNCTIONS
from watchstep.core.updates import Action
from watchstep.rules import examining, load, packs, unit_tests
from watchstep.rules.series import expand
from watchstep.rules.strict_yaml import LARGEST_FILE_BYTES

TEXT = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()


def row(name: str) -> str:
    """A function's row of the table, as it must stand there."""
    function = FUNCTIONS[name]
    required = len(function.takes) - function.optional
    takes = [kind + ("?" if at >= required else "") for at, kind in enumerate(function.takes)]
    now = "yes" if function.includes_now else ""
    text = function.text.replace("|", "\\|")
    given = "number" if function.gives == "number" else "truth"
    unit = given if function.unit == "none" else f"{given}, {function.unit}"
    return f"| `{name}({', '.join(takes)})` | {unit} | {now} | {text} | {function.source} |"


def test_the_table_of_functions_is_exactly_the_one_the_parser_uses() -> None:
    table = [line for line in TEXT.splitlines() if re.match(r"\| `[a-z0-9_]+\(", line)]

    assert table == [row(name) for name in FUNCTIONS]


def test_every_key_of_a_rule_and_no_other_is_described() -> None:
    section = TEXT.split("## A rule file")[1].split("## Expressions")[0]

    described = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert sorted(described) == sorted(examining._RULE_KEYS)


def test_every_key_of_a_unit_test_is_shown() -> None:
    section = TEXT.split("## Checking, testing and backtesting rules")[1]

    assert [key for key in unit_tests._TEST_KEYS if f"{key}:" not in section] == []


def test_every_pack_is_listed_with_its_number_of_rules() -> None:
    section = TEXT.split("| Pack | For | Rules |")[1].split("The default is")[0]

    listed = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \|$", section, re.MULTILINE))

    assert listed == {name: str(len(load([name]).rules)) for name in packs()}


def test_what_halts_is_exactly_what_is_listed() -> None:
    section = TEXT.split("### What halts")[1].split("###")[0]

    halting = {
        (rule.name, pack)
        for pack in packs()
        for rule in load([pack]).rules
        if rule.action >= Action.HALT
    }
    assert set(re.findall(r"^\| `(\w+)` \| `([a-z-]+)` \|", section, re.MULTILINE)) == halting


def test_limits_are_the_ones_in_force() -> None:
    for limit in (
        grammar.LONGEST_EXPRESSION,
        grammar.LONGEST_WINDOW,
        LARGEST_FILE_BYTES,
        examining.MOST_RULES,
    ):
        assert f"{limit:,}" in TEXT
    for levels in (grammar.DEEPEST_NESTING, grammar.DEEPEST_TREE):
        assert f"{levels} levels" in TEXT
    assert f"{grammar.LONGEST_SECONDS / 86400:g} days" in TEXT


def test_the_examples_of_rule_files_and_of_a_test_file_work(tmp_path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(blocks[0])
    (tmp_path / "growth.yaml").write_text(blocks[1])
    (tmp_path / "t.yaml").write_text(blocks[2])

    file = unit_tests.read_tests(str(tmp_path / "t.yaml"))

    assert load([tmp_path / "mine.yaml"]).rules[0].name == "ValueLossOutOfHand"
    assert load([tmp_path / "growth.yaml"]).rules[0].each == ("loss",)
    assert {field.name for field in fields(file)} >= {"rules", "tests"}
    assert unit_tests.run(file) == []


def test_the_notation_of_series_is_as_described() -> None:
    assert expand("5x3") == [5.0] * 4
    assert expand("1+2x3") == [1.0, 3.0, 5.0, 7.0]
    assert expand("_x3") == [None] * 3
