"""Matchers: what they match, and which expressions are refused before they can do harm."""

from __future__ import annotations

import time

import pytest

from watchstep_monitor.service.alerting.silences import matches, parse_matcher
from watchstep_monitor.service.errors import InvalidError


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
    [
        "(a|aa)+",
        "((a|aa))+",
        "(a+)+",
        "((a+)b?)*",
        "(?:a?){60}a{60}",
        "(a*|b)*",
        "a*a*a*a*a*b",
        "a{99999999999999999999}",
        "(",
    ],
)
def test_an_expression_that_could_run_for_hours_is_refused(expression: str) -> None:
    with pytest.raises(InvalidError):
        parse_matcher(f'run=~"{expression}"')


def test_the_slowest_expression_that_is_taken_answers_within_a_second() -> None:
    matcher = parse_matcher('run=~"a*a*a*a*b"')
    began = time.perf_counter()

    assert not matches([matcher], {"run": "a" * 128})
    assert time.perf_counter() - began < 1.0
