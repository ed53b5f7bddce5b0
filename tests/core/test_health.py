"""Health: one word for the present attempt, and since when."""

import math

import pytest

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.health import FiringAlert, HealthTracker, health_of
from watchstep.core.roles import is_core
from watchstep.core.rules import Rule
from watchstep.core.updates import Update

BAD = math.nan
ROLES = {"train/loss": "loss", "eval/loss": "eval_loss", "train/grad_norm": "grad_norm"}
RULES = RuleSet(
    [
        Rule("High", "train/loss > 5", severity="warning"),
        Rule("Gone", "nonfinite(train/loss)", severity="critical"),
        Rule("Huge", "train/grad_norm > 100", severity="critical"),
        Rule("Odd", "nonfinite(eval/loss)", severity="info"),
        Rule("Died", 'event("failed")', severity="critical"),
        Rule("Hidden", "train/loss == 0", severity="critical", labels={"stage": "divergence"}),
        Rule("Idle", "stuck(eval/loss, 3)", severity="critical", labels={"stage": "unlearnt"}),
    ]
)


def tracker() -> HealthTracker:
    labels = {rule.name: rule.labels for rule in RULES.rules}
    return HealthTracker(
        lambda name: ROLES.get(name, "unknown"),
        stage=lambda rule: labels[rule].get("stage", ""),
    )


class Run:
    """A run whose health is tracked; updates count from 1 in each attempt, steps by ten."""

    def __init__(self) -> None:
        self.state = State(RULES)
        self.tracker = tracker()
        self.seq = 0
        self.attempt = 1

    def log(self, event=None, **readings: float) -> str:
        self.seq += 1
        named = {name.replace("_", "/", 1): value for name, value in readings.items()}
        update = Update(self.seq, 10 * self.seq, 0.0, named, event, self.attempt)
        self.state, transitions = step(RULES, self.state, update)
        self.tracker.update(update, transitions)
        return self.tracker.health

    def losses(self, *values: float) -> list[str]:
        return [self.log(train_loss=value) for value in values]

    def resume(self) -> None:
        self.attempt, self.seq = self.attempt + 1, 0


def test_a_run_is_unjudged_until_ten_reports_of_something_it_can_be_judged_by() -> None:
    words = Run().losses(*[1.0] * 11)

    assert words == ["unjudged"] * 9 + ["healthy"] * 2


def test_a_run_that_logs_nothing_to_judge_by_stays_unjudged() -> None:
    run = Run()

    assert {run.log(train_grad_norm=1.0) for _ in range(50)} == {"unjudged"}


def test_a_warning_makes_a_run_suspicious_and_its_end_makes_it_healthy_again() -> None:
    assert Run().losses(*[1.0] * 10, 9.0, 1.0)[-3:] == ["healthy", "suspicious", "healthy"]


def test_one_nan_in_an_evaluation_changes_no_word() -> None:
    run = Run()
    run.losses(*[1.0] * 10)

    assert run.log(train_loss=1.0, eval_loss=BAD) == "healthy"


def test_a_critical_alert_about_a_finite_reading_is_an_explosion() -> None:
    run = Run()
    run.losses(*[1.0] * 10)

    assert run.log(train_loss=1.0, train_grad_norm=1e3) == "exploded"


def test_a_nan_core_reading_under_a_critical_alert_is_a_divergence_that_ends_with_it() -> None:
    assert Run().losses(*[1.0] * 10, BAD, 1.0)[-3:] == ["healthy", "diverged", "healthy"]


def test_five_lost_reports_are_a_divergence_whatever_the_rules_say() -> None:
    row = [True] * 3 + [False] * 5

    assert health_of([], [row], judged=True) == "diverged"
    assert health_of([], [row[:-1]], judged=True) == "suspicious"
    assert health_of([], [row[:-3]], judged=True) == "healthy"


def test_an_info_never_makes_a_run_suspicious() -> None:
    assert health_of([FiringAlert("info", "a")], [], judged=True) == "healthy"


def test_a_rule_labelled_divergence_says_so_although_all_numbers_are_finite() -> None:
    assert Run().losses(*[1.0] * 10, 0.0)[-1] == "diverged"


def test_a_death_is_no_health() -> None:
    run = Run()
    run.losses(*[1.0] * 10)

    assert run.log(event={"kind": "failed", "error": "boom"}) == "healthy"


def test_health_belongs_to_the_present_attempt() -> None:
    run = Run()
    run.losses(*[1.0] * 10, BAD, BAD)
    run.resume()

    words = run.losses(*[1.0] * 10)

    assert words[0] == "unjudged"
    assert words[-1] == "healthy"
    assert run.tracker.first_bad is None


def test_the_first_bad_update_is_the_first_sign_and_the_last_good_the_one_before() -> None:
    run = Run()
    run.losses(*[1.0] * 10, 6.0, 7.0, BAD, BAD)

    bad = run.tracker.first_bad

    assert bad is not None
    assert (bad.seq, bad.step, bad.previous_seq, bad.previous_step) == (11, 110, 10, 100)
    assert run.tracker.damage is not None
    assert run.tracker.damage.seq == 13
    assert {lead.rule: lead.updates for lead in run.tracker.leads()} == {"High": 2, "Gone": 0}


def test_a_run_that_never_learnt_is_suspicious_and_no_update_of_it_was_good() -> None:
    run = Run()

    healths = [run.log(train_loss=2.0 + 0.1 * (at % 2), eval_loss=2.05) for at in range(12)]

    assert healths[-1] == "suspicious"
    assert run.tracker.stage == "early signs"
    assert run.tracker.first_bad is not None
    assert run.tracker.first_bad.row == 1
    assert run.tracker.first_bad.previous_seq is None


def test_stages_follow_one_another_and_an_exception_is_no_divergence() -> None:
    run = Run()
    stages = []
    for value in [1.0] * 10 + [6.0, BAD, BAD, BAD, BAD, BAD, BAD]:
        run.losses(value)
        stages.append(run.tracker.stage)
    assert stages[10:] == ["early signs"] + ["divergence"] * 5 + ["aftermath"]

    died = Run()
    died.losses(1.0)
    died.log(event={"kind": "failed", "error": "KeyError"})

    assert died.tracker.stage == "aftermath"


def test_a_halt_that_was_resumed_leaves_no_aftermath() -> None:
    run = Run()
    run.losses(1.0)
    run.log(event={"kind": "halted"})
    run.resume()
    run.losses(1.0)

    assert run.tracker.stage == "early signs"


@pytest.mark.parametrize(
    ("name", "role", "core"),
    [
        ("anything", "signed_loss", True),
        ("train/approx_kl", "kl", True),
        ("train/advantages_std_raw", "spread", True),
        ("reward_std", "spread", False),
        ("eval/loss", "eval_loss", False),
        ("train/grad_norm", "grad_norm", False),
        ("train/explained_variance", "share", False),
    ],
)
def test_only_what_training_cannot_do_without_is_a_core_reading(name, role, core) -> None:
    assert is_core(name, role) is core


def test_a_loss_that_has_not_moved_yet_leaves_a_run_unjudged() -> None:
    unmoved = FiringAlert("info", "train/loss", "unmoved")
    warned = FiringAlert("warning", "train/loss")

    assert health_of([unmoved], [[True] * 5], judged=True) == "unjudged"
    assert health_of([unmoved, warned], [[True] * 5], judged=True) == "suspicious"


def test_the_rule_by_which_the_guard_halted_fires_though_no_update_showed_enough() -> None:
    run = Run()
    assert run.losses(*[1.0] * 12)[-1] == "healthy"

    halt = {"kind": "guard", "verdict": "halt", "reason": "Huge: nan", "rule": "Huge"}
    assert run.log(halt, train_grad_norm=math.nan) == "exploded"
    assert run.state.firing() == ("Huge",)
