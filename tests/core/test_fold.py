"""Folding a stream in one go, in splits, and from snapshots; NaN."""

import json
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.rules import Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Action, Tick, Transition, Update
from watchstep.errors import RuleError

NAMES = ("a", "b", "c/d")
RULES = (
    Rule("Above", "a > 5"),
    Rule("Patient", "a > 5 or b > 5", hold=Span(updates=3), keep=Span(updates=2)),
    Rule("Timed", "b > 2", hold=Span(seconds=4.0), keep=Span(seconds=3.0)),
    Rule("Clears", "a > 5", clear="a < 1", action=Action.HALT),
    Rule("Unless", "b > 1", unless="c/d > 0 or missing(a, 2)"),
    Rule("Warm", "a > 0", warmup=4),
    Rule("Fires", "a > 5", on_nan="fire"),
    Rule("Baseline", "spike(a, 12) > 3 or drop(b, 12) > 3 or zscore(b, 15s) > 2"),
    Rule("Level", "a > 1.5 * mean(a, 11) + std(a, 11) and min(b, 10) < max(b, 10)"),
    Rule("Trend", "slope(a, 12) > 0.5 or eta(a, 100, 12) < 9 or flat(b, 3) or flat(a, 10s, 0.1)"),
    Rule("Counted", "count(a > 2 or nonfinite(b), 5) >= 3 and not changed(c/d)"),
    Rule("Records", "record(a, 2) > 2 or b < lowest(median(b, 3), 1) - 1 or previous(a) > a"),
    Rule("Reported", "not reported(c/d) or previous(a) > 1"),
    Rule("Follows", "fired(Above, 3) and age() > 2 and not present(c/d)"),
    Rule("Odd", 'reading("1 + 2") != 3 or abs(-a) / b > bound(c/d) or -a < -7'),
    Rule("Texts", 'event("failed") or logged("*oom*")'),
)
SET = RuleSet(RULES)

values = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 6.0, -3.0, math.nan, math.inf, -math.inf, 1e30, 5e-324, 1e200]),
    st.floats(-10, 10),
)
readings = st.dictionaries(st.sampled_from([*NAMES, "1 + 2", "other"]), values)
events = st.sampled_from([None] * 6 + [{"kind": "failed", "error": "CUDA OOM"}])
rows = st.lists(st.tuples(readings, events, st.integers(0, 3), st.booleans()), max_size=50)


def stream(chosen: Sequence[tuple]) -> list[Update]:
    """Updates with clocks that advance and attempts that sometimes begin anew."""
    updates, time, attempt, seq = [], 0.0, 1, 0
    for number, (readings, event, pause, resumes) in enumerate(chosen):
        if resumes and number % 17 == 16:
            attempt, seq = attempt + 1, 0
        time, seq = time + pause, seq + 1
        updates.append(Update(seq, number, time, readings, event, attempt))
    return updates


def fold(rules: RuleSet, updates: Sequence[Update]) -> list[Transition]:
    state, transitions = State(rules), []
    for update in updates:
        state, caused = step(rules, state, update)
        transitions.extend(caused)
    return transitions


def same(a: Sequence[Transition], b: Sequence[Transition]) -> bool:
    """Equality under which a NaN reading equals itself."""
    return repr(list(a)) == repr(list(b))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows, st.sets(st.integers(0, 50), max_size=6))
def test_folding_in_any_split_through_json_snapshots_gives_the_same_transitions(chosen, cuts):
    updates = stream(chosen)
    whole = fold(SET, updates)

    state, split = State(SET), []
    for number, update in enumerate(updates):
        if number in cuts:
            state = State.restore(SET, json.loads(json.dumps(state.snapshot(), allow_nan=False)))
        state, transitions = step(SET, state, update)
        split.extend(transitions)

    assert same(split, whole)


def test_a_snapshot_kept_as_a_value_does_not_change_when_the_run_goes_on() -> None:
    random.seed(4)
    updates = [Update(n, n, float(n), {"a": random.random(), "b": 1.0}) for n in range(1, 60)]
    state = State(SET)
    for update in updates[:30]:
        state, _ = step(SET, state, update)
    written = state.snapshot()
    frozen = json.dumps(written)

    for update in updates[30:]:
        state, _ = step(SET, state, update)

    assert json.dumps(written) == frozen


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([rule for rule in RULES if rule.name not in {"Fires", "Texts"}]), rows)
def test_an_update_of_nan_alone_resolves_nothing_and_starts_nothing(rule, chosen):
    rules = RuleSet([rule, *(other for other in RULES if other.name == "Above" != rule.name)])
    state = State(rules)
    for update in stream(chosen):
        state, _ = step(rules, state, update)
    firing = state.firing()
    dark = dict.fromkeys([*NAMES, "1 + 2"], math.nan)
    quiet = {"Odd", "Timed", "Counted", "Trend"}

    for number in range(1, 8):
        after = Update(state.seq + 1, 0, state.time + number, dark, None, max(state.attempt, 1))
        state, _ = step(rules, state, after)

    # Rules about `fired`, `present` and `nonfinite` can be told in the dark as well.
    if rule.name in quiet | {"Above", "Patient", "Clears", "Baseline", "Level", "Warm"}:
        assert rule.name not in firing or rule.name in state.firing()


def runs(expr: str, *updates: dict[str, float], **rule: object) -> list[str]:
    """`number:change` for every transition of one rule over updates a second apart."""
    rules = RuleSet([Rule("R", expr, **rule)])  # type: ignore[arg-type]
    transitions = fold(rules, [Update(n, n, float(n), r) for n, r in enumerate(updates, start=1)])
    return [f"{transition.seq}:{transition.change}" for transition in transitions]


def a(*numbers: float) -> list[dict[str, float]]:
    return [{"a": number} for number in numbers]


def test_a_nan_neither_fires_nor_resolves_by_default() -> None:
    assert runs("a > 5", *a(math.nan, 9, math.nan, math.nan, 1)) == ["2:firing", "5:resolved"]


def test_a_nan_fires_where_the_rule_says_so() -> None:
    assert runs("a > 5", *a(1, math.nan, 1), on_nan="fire") == ["2:firing", "3:resolved"]


def test_a_missing_reading_is_not_false() -> None:
    assert runs("a > 5", {"a": 9.0}, {"b": 1.0}, {"a": 1.0}) == ["1:firing", "3:resolved"]
    assert runs("not a > 5", {"b": 1.0}) == []


def test_a_count_is_not_diluted_by_what_cannot_be_told() -> None:
    dark = math.nan
    transitions = runs("count(a > 5, 3) >= 2", *a(9, 9, dark, dark, dark, 9, 1, 1))

    assert transitions == ["2:firing", "8:resolved"]


def test_infinity_compares_as_the_number_it_is() -> None:
    assert runs("a > 5", *a(math.inf, -math.inf)) == ["1:firing", "2:resolved"]


def test_for_counts_updates_in_a_row_and_starts_again_after_a_break() -> None:
    transitions = runs("a > 5", *a(9, 9, 1, 9, 9, 9), hold=Span(updates=3))

    assert transitions == ["1:pending", "3:cancelled", "4:pending", "6:firing"]


def test_for_in_seconds_is_measured_on_the_trainers_clock() -> None:
    assert runs("a > 5", *a(9, 9, 9, 9), hold=Span(seconds=2.0)) == ["1:pending", "3:firing"]


def test_keep_firing_for_outlasts_the_condition_by_that_many_updates() -> None:
    assert runs("a > 5", *a(9, 1, 1, 1), keep=Span(updates=2)) == ["1:firing", "4:resolved"]


def test_clear_must_hold_before_a_rule_resolves() -> None:
    assert runs("a > 5", *a(9, 4, 3, math.nan, 0), clear="a < 1") == ["1:firing", "5:resolved"]


def test_unless_stops_a_rule_and_an_unknown_unless_does_not() -> None:
    assert runs("a > 5", {"a": 9.0, "b": 1.0}, unless="b > 0") == []
    assert runs("a > 5", {"a": 9.0}, unless="b > 0") == ["1:firing"]


def test_a_rule_cannot_hold_before_its_warm_up_is_over() -> None:
    assert runs("a > 5", *a(9, 9, 9), warmup=2) == ["3:firing"]


def test_a_resumed_run_is_no_evidence_that_it_is_healthy() -> None:
    rules = RuleSet([Rule("R", "a > 5", warmup=2)])
    first = [Update(n, n, 0.0, {"a": 9.0}) for n in (1, 2, 3)]
    second = [Update(n, n, 0.0, {"a": 1.0}, attempt=2) for n in (1, 2, 3)]

    transitions = [(t.attempt, t.seq, t.change) for t in fold(rules, [*first, *second])]

    assert transitions == [(1, 3, "firing"), (2, 3, "resolved")]


def test_a_new_attempt_starts_with_fresh_windows() -> None:
    rules = RuleSet([Rule("R", "record(a, 3) > 10")])
    calm = [Update(n, n, 0.0, {"a": 1.0}) for n in range(1, 9)]

    transitions = fold(rules, [*calm, Update(1, 1, 0.0, {"a": 99.0}, attempt=2)])

    assert transitions == []


def test_where_keeps_rules_to_runs_with_those_tags() -> None:
    rules = RuleSet([Rule("Only", "a > 5", where={"env": "x"}), Rule("All", "fired(Only, 2)")])

    assert [rule.name for rule in rules.for_tags({"env": "y"}).rules] == ["All"]
    assert rules.for_tags({"env": "x"}) is rules
    assert fold(rules.for_tags({}), [Update(1, 1, 0.0, {"a": 9.0})]) == []


def test_an_event_without_readings_leaves_no_metric_missing() -> None:
    rules = RuleSet([Rule("Gone", "missing(a, 1)")])
    seen = Update(1, 1, 0.0, {"a": 1.0})
    saved = Update(2, 1, 0.0, {}, {"kind": "checkpoint"})
    silent = Update(3, 2, 0.0, {"b": 1.0})

    transitions = fold(rules, [seen, saved, silent, Update(4, 3, 0.0, {"a": 1.0})])

    assert [(t.seq, t.change) for t in transitions] == [(3, "firing"), (4, "resolved")]


def test_a_metric_never_reported_is_not_missing() -> None:
    assert runs("missing(a, 1)", {"b": 1.0}, {"b": 1.0}) == []


def test_fired_looks_at_the_updates_before_this_one() -> None:
    rules = RuleSet([Rule("A", "a > 5"), Rule("B", "fired(A, 2)")])

    transitions = fold(rules, [Update(n, n, 0.0, {"a": v}) for n, v in enumerate((9, 1, 1, 1), 1)])

    assert [(t.rule, t.seq, t.change) for t in transitions if t.rule == "B"] == [
        ("B", 2, "firing"),
        ("B", 4, "resolved"),
    ]


def test_eta_counts_the_updates_until_the_trend_in_the_logarithm_arrives() -> None:
    falling = [{"a": 10.0**-n} for n in range(11)]

    # At update 11 the reading is 1e-10, so 1e-14 is four updates away.
    assert runs("eta(a, 1e-14, 10) < 4.5", *falling)[:1] == ["11:firing"]
    assert runs("eta(a, 1e-14, 10) < 3.5", *falling) == []
    assert runs("eta(a, 100, 10) < 1e9", *falling) == []


def test_the_reason_names_the_reading_of_the_rule_itself() -> None:
    rules = RuleSet([Rule("Loss", "nonfinite(loss)"), Rule("Reward", "nonfinite(reward)")])
    broken = Update(1, 1, 0.0, {"loss": math.nan, "reward": math.inf})

    transitions = {t.rule: t.metric for t in fold(rules, [broken])}

    assert transitions == {"Loss": "loss", "Reward": "reward"}


def test_a_rule_edited_or_added_between_snapshot_and_restore_goes_on_from_its_name() -> None:
    before = RuleSet([Rule("Kept", "a > 5"), Rule("Gone", "a > 5")])
    after = RuleSet([Rule("Kept", "a > 8"), Rule("New", "a > 5")])
    state, _ = step(before, State(before), Update(1, 1, 0.0, {"a": 9.0}))

    resumed = State.restore(after, json.loads(json.dumps(state.snapshot())))
    resumed, transitions = step(after, resumed, Update(2, 2, 0.0, {"a": 7.0}))

    assert [(t.rule, t.change) for t in transitions] == [("Kept", "resolved"), ("New", "firing")]


def test_a_window_keeps_its_values_although_the_rule_around_it_changed() -> None:
    before = RuleSet([Rule("R", "spike(a, 10) > 100")])
    after = RuleSet([Rule("R", "spike(a, 10) > 3")])
    state = State(before)
    for number in range(1, 11):
        state, _ = step(before, state, Update(number, number, 0.0, {"a": 1.0}))

    resumed = State.restore(after, json.loads(json.dumps(state.snapshot())))
    _, transitions = step(after, resumed, Update(11, 11, 0.0, {"a": 4.0}))

    assert [t.change for t in transitions] == ["firing"]


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        State.restore(SET, {"version": 99})


def test_the_strongest_action_among_the_rules_that_hold_now_wins() -> None:
    rules = RuleSet(
        [
            Rule("Pin", "a > 1", action=Action.PIN),
            Rule("Halt", "a > 5", action=Action.HALT, keep=Span(updates=9)),
        ]
    )
    state = State(rules)

    state, _ = step(rules, state, Update(1, 1, 0.0, {"a": 9.0}))
    assert judge(rules, state).rules == ("Halt",)
    state, _ = step(rules, state, Update(2, 2, 0.0, {"a": 2.0}))
    verdict = judge(rules, state)
    assert (verdict.action, verdict.rules, verdict.firing) == (
        Action.PIN,
        ("Pin",),
        ("Pin", "Halt"),
    )


def test_an_event_after_a_halting_update_does_not_ask_for_the_halt_again() -> None:
    rules = RuleSet([Rule("Halt", "a > 5", action=Action.HALT)])
    state, _ = step(rules, State(rules), Update(1, 1, 0.0, {"a": 9.0}))

    state, _ = step(rules, state, Update(2, 1, 0.0, {}, {"kind": "checkpoint"}))

    assert judge(rules, state).action == Action.NONE
    assert judge(rules, state).firing == ("Halt",)


def test_silence_fires_at_a_tick_and_ends_at_the_next_tick_or_update() -> None:
    rules = RuleSet([Rule("Silent", "silence() / 60 > 5 or stalled()")])
    state, _ = step(rules, State(rules), Update(1, 1, 0.0, {"a": 1.0}))

    words = []
    for tick in (Tick(100.0, 0.0), Tick(301.0, 0.0), Tick(302.0, 302.0)):
        state, transitions = step(rules, state, tick)
        words.append([t.change for t in transitions])

    assert words == [[], ["firing"], ["resolved"]]


@pytest.mark.parametrize(
    "rule",
    [
        Rule("R", "stalled() and a > 1"),
        Rule("R", "a > 1", unless="stalled()"),
        Rule("R", "silence() > 5", warmup=3),
    ],
)
def test_a_rule_cannot_mix_the_services_clock_with_readings(rule: Rule) -> None:
    with pytest.raises(RuleError):
        RuleSet([rule])


def test_aliases_fill_a_slot_in_order_and_with_their_factor() -> None:
    from watchstep.core.rules import Alias

    rules = RuleSet(
        [Rule("R", "train/entropy_loss > 0")],
        aliases=[Alias("entropy", "train/entropy_loss", -1.0)],
    )

    assert [t.seq for t in fold(rules, [Update(1, 1, 0.0, {"entropy": -2.0})])] == [1]
    both = {"entropy": -2.0, "train/entropy_loss": -1.0}
    assert fold(rules, [Update(1, 1, 0.0, both)]) == []


def test_names_may_look_like_expressions_without_being_taken_for_them() -> None:
    transitions = runs(
        'reading("(a + b)") > 1 and a + b > 10', {"a": 1.0, "b": 1.0, "(a + b)": 5.0}
    )

    assert transitions == []
    assert runs('reading("2.0") > 2.0', {"2.0": 3.0}) == ["1:firing"]


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(RuleError, match="two rules are called 'R'"):
        RuleSet([Rule("R", "a > 1"), Rule("R", "a > 2")])


@pytest.mark.parametrize(
    ("readings", "metric", "reason"),
    [
        ({"a": 0.0, "b": 0.0, "c": 1.0}, "a", "a = 0, b = 0, c = 1"),
        ({"a": 9.0, "b": 2.0, "c": 1.0}, "b", "b = 2, a = 9, c = 1"),
        ({"b": 2.0, "c": 1.0}, "b", "b = 2, c = 1"),
    ],
)
def test_of_several_conditions_the_alert_names_the_one_that_holds(
    readings: dict[str, float], metric: str, reason: str
) -> None:
    rules = RuleSet([Rule("Idle", "(a == 0 or b > 1) and c > 0")])

    (transition,) = fold(rules, [Update(1, 1, 0.0, readings)])

    assert (transition.metric, transition.reason) == (metric, reason)
