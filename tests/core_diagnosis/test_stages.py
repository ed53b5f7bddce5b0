"""The stages of an incident and its story, on series whose story is known."""

from __future__ import annotations

import math

import pytest

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.health import HealthTracker
from watchstep.core.rules import Rule
from watchstep.core.stages import (
    Holding,
    Mark,
    Phase,
    first_bad,
    may_only_fall,
    onset,
    stage,
    story,
)
from watchstep.core.updates import Transition, Update


def seed_run(updates: int = 40, *, dies_at: int = 31) -> list[Update]:
    """The seed document's course: a healthy run, a spike, NaN from the update after it."""
    return [Update(at, at, float(at), _readings(at, dies_at)) for at in range(1, updates + 1)]


def _readings(at: int, dies_at: int) -> dict[str, float]:
    calm = {
        "train/policy_loss": -0.003 + 0.001 * math.sin(at),
        "train/value_loss": 0.4 + 0.1 * math.sin(at),
        "train/approx_kl": 0.01,
        "train/grad_norm": 0.5,
    }
    if at == dies_at - 2:
        return calm | {"train/approx_kl": 0.5}
    if at == dies_at - 1:
        return {"train/policy_loss": -47.3, "train/value_loss": 156.8, "train/grad_norm": 2847.3}
    return dict.fromkeys(calm, math.nan) if at >= dies_at else calm


def fired(rules: RuleSet, history: list[Update]) -> list[Transition]:
    state, firings = State(rules), []
    for update in history:
        state, transitions = step(rules, state, update)
        firings += [each for each in transitions if each.change == "firing"]
    return firings


def test_a_loss_that_leaves_its_start_at_once_began_to_there() -> None:
    lost = [3.5, 1770.0, 600.0, 174.0, 150.0, 370.0, 310.0, 490.0, 120.0, 480.0, 780.0]

    assert onset(lost, is_loss=True, is_whole=True) == 1
    assert onset(lost) == len(lost) - 1


def test_the_seeds_course_goes_through_all_four_stages(rules: RuleSet) -> None:
    history = seed_run()
    stages = []

    for at in range(29, 41):
        so_far = history[:at]
        stages.append(stage(rules, fired(rules, so_far), so_far))

    assert stages[:3] == ["early signs", "explosion", "divergence"]
    assert stages[-1] == "aftermath"


def test_the_story_has_its_first_bad_update_and_lead_times(rules: RuleSet) -> None:
    history = seed_run()

    outcome = story(rules, fired(rules, history), history)

    assert outcome.first_bad_update == 29
    assert outcome.last_good_update == 28
    assert outcome.damage_update == 31
    leads = {lead.rule: lead.updates for lead in outcome.leads}
    assert leads["KLHigh"] == 2
    assert leads["GradientRecord"] == 1
    assert leads["LossNonFinite"] == 0
    assert outcome.phases == (
        Phase("early signs", 29, 29),
        Phase("explosion", 30, 30),
        Phase("divergence", 31, 35),
        Phase("aftermath", 36, 40),
    )


def test_a_run_without_alerts_has_no_story(rules: RuleSet) -> None:
    history = seed_run(20)

    outcome = story(rules, [], history)

    assert (outcome.first_bad_update, outcome.last_good_update, outcome.damage_update) == (
        None,
        None,
        None,
    )
    assert outcome.phases == ()
    assert stage(rules, [], history) == "early signs"


def test_an_empty_history_has_no_story(rules: RuleSet) -> None:
    assert story(rules, [], []).first_bad_update is None


def test_a_rule_that_waits_is_told_from_where_it_first_held(rules: RuleSet) -> None:
    history = seed_run(20)
    alert = _alert("RewardCollapse", 10)
    waits = rules.rules[rules.index["RewardCollapse"]].hold.updates or 1

    outcome = story(rules, [alert], history)

    assert waits > 1
    assert outcome.first_bad_update == 10 - (waits - 1)


def test_a_death_without_any_alert_before_is_its_own_first_bad_update(rules: RuleSet) -> None:
    history = [*seed_run(20), Update(21, 20, 21.0, {}, {"kind": "failed", "error": "boom"})]

    outcome = story(rules, fired(rules, history), history)

    assert outcome.damage_update == 21
    assert outcome.first_bad_update == 21
    assert outcome.last_good_update == 20


def test_a_halt_after_an_explosion_is_its_aftermath(rules: RuleSet) -> None:
    history = [*seed_run(30), Update(31, 30, 31.0, {}, {"kind": "halted", "reason": "x"})]

    assert stage(rules, fired(rules, history), history) == "aftermath"
    assert story(rules, fired(rules, history), history).damage_update is None


def test_an_old_warning_that_had_nothing_to_do_with_it_is_no_first_sign(rules: RuleSet) -> None:
    history = seed_run(300, dies_at=290)
    alerts = [_alert("KLHigh", 5), *fired(rules, history)]

    outcome = story(rules, alerts, history)

    assert outcome.first_bad_update == 288


def test_info_alerts_are_no_part_of_it(rules: RuleSet) -> None:
    history = seed_run(20)
    alert = Transition("AdvantagesVanishing", "firing", 1, 10, 10, 0.0, "", 0.0, "", "info")

    assert story(rules, [alert], history).first_bad_update is None


def test_an_earlier_attempt_is_not_mixed_in(rules: RuleSet) -> None:
    first = seed_run(30)
    second = [Update(u.seq, u.step, u.time, dict(u.readings), None, 2) for u in seed_run(20)]
    alert = Transition("KLHigh", "firing", 2, 12, 12, 0.0, "", 0.4, "", "warning")

    outcome = story(rules, [*fired(rules, first), alert], [*first, *second])

    assert outcome.attempt == 2
    assert outcome.first_bad_update == 12


def _alert(rule: str, seq: int) -> Transition:
    return Transition(rule, "firing", 1, seq, seq, 0.0, "", 0.5, "", "warning")


SETTLED = [1.0 + 0.01 * (at % 5) for at in range(60)]


def test_a_reading_was_bad_from_the_first_of_its_unbroken_run_of_nans_on() -> None:
    assert onset([*SETTLED, math.nan, 1.0, *[math.nan] * 40]) == 62


def test_a_level_was_bad_from_where_it_last_left_the_one_before() -> None:
    falling_again = [9.0 - 0.1 * at for at in range(40)]

    assert onset([*SETTLED, *falling_again]) == 60


def test_a_loss_whose_noise_grows_with_it_was_bad_from_its_first_step_above_its_best() -> None:
    rising = [1.0 + 0.04 * at * (1.0 + 0.8 * math.sin(at)) for at in range(1, 60)]

    assert onset([*SETTLED, *rising], is_loss=True) <= 66


def test_a_climb_is_bad_from_its_first_step_out_of_the_level() -> None:
    assert onset([*SETTLED, 1.02, 2.5, 7.0, math.nan, math.nan]) == 61


def test_a_mean_reward_was_bad_from_its_first_step_down_to_zero() -> None:
    learnt = [min(4.0 * at, 200.0) for at in range(80)]
    means = [200.0 - 4.0 * at for at in range(1, 50)]

    assert onset([*learnt, *means, *[0.0] * 12], is_reward=True) == 80
    assert onset([*learnt, 0.0, 200.0, 0.0], is_reward=True) > 80


def test_a_loss_that_is_zero_was_bad_from_its_first_zero_and_not_while_it_was_learnt() -> None:
    plateau = [2.3 + 0.01 * (at % 3) for at in range(15)]
    learnt = [2.3 * 0.93**at for at in range(40)]

    assert onset([*plateau, *learnt, *[0.0] * 5], is_loss=True, is_whole=True) == 55


NOISE = [math.exp(0.15 * math.sin(at * at)) for at in range(200)]


def test_growth_was_bad_from_where_it_outgrew_the_slow_drift_before_it() -> None:
    # The KL of a GRPO run rises honestly as its reward does, then doubles with every update.
    drift = [0.004 * 1.02**at * NOISE[at] for at in range(80)]
    exploding = [0.02 * 2.0**at for at in range(1, 15)]

    assert onset([*drift, *exploding]) == 80


def test_growth_was_bad_from_where_it_left_the_noise_and_not_within_it() -> None:
    settled = [0.026 * (NOISE[at] if at < 40 else 1.2 * NOISE[at] ** 0.3) for at in range(60)]

    assert onset([*settled, *[0.03 * 9.0**at for at in range(1, 7)]], is_loss=True) == 60


def test_a_reward_was_bad_from_its_first_step_out_of_its_noise() -> None:
    settled = [0.6 + 0.1 * math.log(each) for each in NOISE[:60]]
    slide = [0.61, 0.6, *[0.6 * 0.8**at for at in range(1, 20)]]

    assert onset([*settled, *slide], is_reward=True) == 62


def test_a_discriminator_that_wins_does_so_where_its_loss_leaves_its_level() -> None:
    losses = [*[0.1 * each for each in NOISE[:60]], *[1e-8 * each for each in NOISE[:20]]]

    assert may_only_fall("loss", "train/loss")
    assert not may_only_fall("loss", "l_d_real")
    assert onset(losses) == 60


@pytest.mark.parametrize(
    "values",
    [
        [5.0 * 0.98**at for at in range(120)],
        [*SETTLED, *[0.5] * 30, *SETTLED[:30]],
        [1.0, math.inf, None, 2.0],
        [None],
    ],
)
def test_a_slow_drift_and_a_run_too_short_to_tell_have_no_evidence_before_the_alert(
    values: list[float | None],
) -> None:
    assert onset(values) >= len(values) - 30


def test_an_alert_that_needed_long_to_be_sure_leaves_no_bad_update_as_the_last_good_one() -> None:
    rules = RuleSet([Rule("High", "min(train/loss, 20) > 5")])
    values = [*SETTLED, *[9.0 - 0.05 * at for at in range(30)]]
    history = [Update(at, 10 * at, float(at), {"train/loss": v}) for at, v in enumerate(values, 1)]
    state, edges, tracker = State(rules), [], HealthTracker(rules.role, rules.canonical)
    for update in history:
        state, transitions = step(rules, state, update)
        tracker.update(update, transitions)
        edges += [edge for edge in transitions if edge.change == "firing"]

    outcome = story(rules, edges, history)

    assert edges[0].seq > 61
    assert (outcome.first_bad_update, outcome.last_good_update) == (61, 60)
    assert tracker.first_bad is not None
    assert (tracker.first_bad.seq, tracker.first_bad.previous_seq) == (61, 60)


def _tracked(rule: Rule, name: str, values: list[float | None]) -> HealthTracker:
    rules = RuleSet([rule])
    state, tracker = State(rules), HealthTracker(rules.role, rules.canonical, rules.stage_label)
    for at, value in enumerate(values, 1):
        readings = {"train/x": 0.0, **({} if value is None else {name: value})}
        update = Update(at, at, float(at), readings)
        state, transitions = step(rules, state, update)
        tracker.update(update, transitions)
    return tracker


FALLS = [-0.05 * at for at in range(1, 1000)]


@pytest.mark.parametrize(
    ("values", "since"),
    [
        pytest.param(FALLS, 1, id="since its start"),
        pytest.param([*(1.0 - 0.01 * at for at in range(100)), *FALLS], 101, id="through zero"),
        pytest.param([*[-2.0, -2.1] * 200, *FALLS[60:]], 401, id="from a density's level"),
    ],
)
def test_a_loss_that_falls_without_end_is_bad_from_where_it_began(
    values: list[float | None], since: int
) -> None:
    tracker = _tracked(Rule("Far", "train/loss < -30", severity="warning"), "train/loss", values)

    assert tracker.first_bad is not None
    assert tracker.first_bad.seq == since


@pytest.mark.parametrize(
    ("losses", "since"),
    [([1.25] * 6, 1), ([1.5, 1.4, *[1.25] * 5], 401)],
)
def test_evaluations_that_repeat_are_bad_from_the_first_of_them(
    losses: list[float], since: int
) -> None:
    values = [value for loss in losses for value in (loss, *[None] * 199)]
    rule = Rule("Stuck", "stuck(eval/loss, 4)", severity="warning")

    tracker = _tracked(rule, "eval/loss", values)

    assert tracker.first_bad is not None
    assert tracker.first_bad.seq == since


def test_what_was_never_better_is_bad_from_the_start_however_late_that_is_critical() -> None:
    never = Holding("Worse", "", "warning", Mark(100, 100, 100), Mark(1, 1, 1), explodes=False)
    sure = Holding("Sure", "", "critical", Mark(400, 400, 400), explodes=False)

    assert first_bad([never, sure], None) == Mark(1, 1, 1)
