"""The incident timeline: critical stays firing here and resolves in Prometheus."""

import shutil
import subprocess
from pathlib import Path

import pytest

from watchstep.core.engine import State, judge, step
from watchstep.core.updates import Action, Update
from watchstep.demo.seed import TIMELINE
from watchstep.rules import load

CONTRAST = Path(__file__).parents[2] / "deploy" / "prometheus" / "contrast"


@pytest.mark.parametrize("packs", [["ppo", "generic"], ["ppo-seed"]])
def test_what_is_critical_at_update_1099_is_still_firing_through_the_nan(packs) -> None:
    rules = load(packs)
    state, firing = State(rules), {}

    for number, readings in [*TIMELINE.items(), (1101, TIMELINE[1100]), (1102, TIMELINE[1100])]:
        state, _ = step(rules, state, Update(number, number, float(number), readings))
        firing[number] = {
            name for name in state.firing() if rules.rules[rules.index[name]].severity == "critical"
        }

    assert firing[1095] == set()
    assert firing[1099]
    assert firing[1099] <= firing[1100]
    assert firing[1100] <= firing[1102]
    assert len(firing[1100]) > len(firing[1099])


def test_the_default_packs_halt_at_the_first_update_that_is_no_number() -> None:
    rules = load(["ppo", "generic"])
    state = State(rules)

    for number, readings in TIMELINE.items():
        state, _ = step(rules, state, Update(number, number, float(number), readings))

    assert judge(rules, state).action == Action.HALT
    assert "LossNonFinite" in judge(rules, state).rules


def test_the_same_numbers_in_plain_prometheus_rules_resolve_at_the_moment_of_death() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")

    result = subprocess.run(
        [promtool, "test", "rules", "seed.test.yml"],
        cwd=CONTRAST,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "exp_alerts: []" in (CONTRAST / "seed.test.yml").read_text()
