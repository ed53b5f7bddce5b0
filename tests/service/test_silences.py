"""Matchers: what they match, and which expressions are refused before they can do harm."""

from __future__ import annotations

import pytest

from watchstep_monitor.service.alerting.silences import matches, parse_matcher
from watchstep_monitor.service.errors import InvalidError
from watchstep_monitor.service.run_state.records import Matcher


@pytest.mark.parametrize(
    ("matcher", "run", "holds"),
    [
        ('run="ppo-7"', "ppo-7", True),
        ('run!="ppo-7"', "ppo-7", False),
        ('run=~"ppo-.*"', "ppo-7", True),
        ('run=~"ppo"', "ppo-7", False),
        ('run=~"ppo-[*+(|]7?|x{2}"', "ppo-7", False),
        ('run=~"(ppo|sac)-[0-9]+"', "sac-12", True),
        ('run!~"(ppo|sac)-.*"', "dqn", True),
        (r'run=~"a\.b\+"', "a.b+", True),
        ('missing=""', "ppo-7", True),
    ],
)
def test_a_matcher_holds_as_in_alertmanager(matcher: str, run: str, holds: bool) -> None:
    assert matches([parse_matcher(matcher)], {"run": run}) is holds


@pytest.mark.parametrize(
    "expression",
    ["(?=a)b", r"(a)\1", "((a{100}){100}){100}", r"(\pL{1,20}){1,20}!", "("],
)
def test_what_no_automaton_can_match_is_refused(expression: str) -> None:
    with pytest.raises(InvalidError):
        parse_matcher(f'run=~"{expression}"')


@pytest.mark.parametrize(
    "expression",
    ["(a|aa)+b", "(a+)+b", "((a+)b?)*c", "(?:a?){60}a{60}b", "(a*|b)*c", "a*a*a*a*a*a*a*b"],
)
def test_an_expression_made_to_be_slow_takes_no_longer_for_a_text_of_a_million(
    expression: str,
) -> None:
    # A backtracking engine would not come back in the life of this machine.
    assert not matches([parse_matcher(f'run=~"{expression}"')], {"run": "a" * 1_000_000})


def test_an_old_silence_that_cannot_be_compiled_holds_for_nothing() -> None:
    for op in ("=~", "!~"):
        assert not matches([Matcher("run", op, "(?!sac).*")], {"run": "ppo"})


def test_a_matcher_means_a_rule_by_its_former_names_too() -> None:
    labels = {"rule": "LossGrows"}

    assert matches([parse_matcher('rule="LossDoubled"')], labels, ["LossDoubled"])
    assert matches([parse_matcher('rule=~"LossD.*"')], labels, ["LossDoubled"])
    assert not matches([parse_matcher('rule!="LossDoubled"')], labels, ["LossDoubled"])
    assert not matches([parse_matcher('rule="LossDoubled"')], labels)
