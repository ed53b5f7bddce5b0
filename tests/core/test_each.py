"""Rules with `each`: one rule for every metric of a role, counted in that metric's reports."""

import json
import math

import pytest

from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.rules import Alias, Rule
from watchstep.core.ruleset import MOST_OF_A_ROLE
from watchstep.core.spans import Span
from watchstep.core.updates import Action, Transition, Update
from watchstep.errors import RuleError

ROLES = {"a": "loss", "b": "loss", "c": "reward", "e": "eval_loss"}


def each(name: str, expr: str, role: str = "loss", **rest: object) -> Rule:
    return Rule(name, expr, each=(role,), **rest)  # type: ignore[arg-type]


def a_set(*rules: Rule, **rest: object) -> RuleSet:
    return RuleSet(rules, **{"roles": ROLES, **rest})  # type: ignore[arg-type]


class Run:
    """One run under a set of rules, a second an update."""

    def __init__(self, *rules: Rule, **rest: object) -> None:
        self.rules = a_set(*rules, **rest)
        self.state = State(self.rules)
        self.attempt = 1

    def log(self, event=None, **readings: float) -> list[str]:
        named = {name.replace("__", "/"): value for name, value in readings.items()}
        seq = self.state.seq + 1 if self.state.attempt == self.attempt else 1
        update = Update(seq, seq, float(seq), named, event, self.attempt)
        self.state, transitions = step(self.rules, self.state, update)
        return [shown(transition) for transition in transitions]

    def through_json(self, rules: RuleSet | None = None) -> None:
        written = json.loads(json.dumps(self.state.snapshot(), allow_nan=False))
        self.rules = rules or self.rules
        self.state = State.restore(self.rules, written)


def shown(transition: Transition) -> str:
    return f"{transition.rule}{{{transition.subject}}} {transition.change}"


def test_a_rule_holds_for_each_metric_of_its_role_by_itself() -> None:
    run = Run(each("High", "metric > 5"), Rule("Any", "c > 100"))

    assert run.log(a=9.0, b=1.0, c=9.0) == ["High{a} firing"]
    assert run.log(a=9.0, b=9.0, c=9.0) == ["High{b} firing"]
    assert run.log(a=1.0, b=9.0, c=9.0) == ["High{a} resolved"]
    assert [(rule.name, subject) for rule, subject in run.state.alerts()] == [("High", "b")]
    assert run.state.firing() == ("High",)


def test_a_list_of_roles_is_a_rule_for_every_metric_of_any_of_them() -> None:
    run = Run(Rule("High", "metric > 5", each=("loss", "reward")))

    assert run.log(a=9.0, c=9.0, e=9.0) == ["High{a} firing", "High{c} firing"]


def test_a_transition_has_the_metrics_reading_and_the_others_in_its_reason() -> None:
    rules = a_set(each("High", "c > 1 and metric > 5"))

    _, transitions = step(rules, State(rules), Update(1, 1, 0.0, {"a": 9.0, "c": 3.0}))

    assert (transitions[0].metric, transitions[0].reading, transitions[0].subject) == (
        "a",
        9.0,
        "a",
    )
    assert transitions[0].reason == "a = 9, c = 3"


def test_a_verdict_names_the_rule_once_and_all_its_metrics() -> None:
    rules = a_set(each("High", "metric > 5", action=Action.HALT))

    state, _ = step(rules, State(rules), Update(1, 1, 0.0, {"a": 9.0, "b": 9.0}))
    verdict = judge(rules, state)

    assert (verdict.action, verdict.rules, verdict.subjects) == (Action.HALT, ("High",), ("a", "b"))
    assert verdict.firing == ("High",)


def test_for_and_keep_firing_for_count_the_metrics_own_reports() -> None:
    run = Run(each("High", "metric > 5", "eval_loss", hold=Span(updates=2), keep=Span(updates=1)))

    changes = [run.log(a=1.0, **({"e": 9.0} if at % 3 == 0 else {})) for at in range(9)]
    over = [run.log(a=1.0, **({"e": 1.0} if at % 3 == 0 else {})) for at in range(6)]

    assert [at for at, words in enumerate(changes) if words] == [0, 3]
    assert [at for at, words in enumerate(over) if words] == [3]


def test_a_warm_up_counts_the_metrics_own_reports() -> None:
    run = Run(each("High", "metric > 5", "eval_loss", warmup=2))

    changes = [run.log(a=1.0, **({"e": 9.0} if at % 2 else {})) for at in range(8)]

    assert [at for at, words in enumerate(changes) if words] == [5]


def test_a_count_counts_the_metrics_own_reports_also_of_what_other_updates_could_tell() -> None:
    run = Run(each("Alone", "count(not present(a), 3) >= 3", "eval_loss", unless="metric < 0"))

    silent = [run.log(b=1.0) for _ in range(5)]
    changes = [run.log(e=1.0) for _ in range(3)]

    assert silent == [[]] * 5
    assert changes == [[], [], ["Alone{e} firing"]]


def test_missing_counts_the_gaps_that_the_metric_had_before() -> None:
    run = Run(each("Gone", "missing(metric, 2)", "eval_loss"))

    changes = [run.log(a=1.0, **({"e": 1.0} if at in {0, 5, 10} else {})) for at in range(25)]

    assert [at for at, words in enumerate(changes) if words] == [20]
    assert run.log(e=1.0) == ["Gone{e} resolved"]


def test_a_metric_reported_once_is_never_missing() -> None:
    run = Run(each("Gone", "missing(metric, 1)", "eval_loss"))

    assert [run.log(a=1.0, **({} if at else {"e": 1.0})) for at in range(30)] == [[]] * 30


def test_nonfinite_of_the_metric_looks_at_no_other_of_its_canonical_name() -> None:
    run = Run(each("Bad", "nonfinite(metric)"), aliases=[Alias("b", "a")])

    assert run.log(a=1.0, b=math.nan) == ["Bad{b} firing"]
    assert run.log(a=math.inf, b=1.0) == ["Bad{a} firing", "Bad{b} resolved"]


def test_an_aliased_metric_is_judged_under_the_name_that_was_reported() -> None:
    run = Run(
        each("High", "metric > 5"),
        Rule("Plain", "train/loss > 5"),
        aliases=[Alias("a", "train/loss")],
    )

    assert run.log(a=9.0) == ["High{a} firing", "Plain{} firing"]


def test_a_metric_reported_later_joins_and_nothing_that_was_before_is_lost() -> None:
    rules = (
        each("Leap", "growth(metric, 3) > 1", hold=Span(updates=2)),
        Rule("Record", "record(c, 3) > 10"),
    )
    joined, whole = Run(*rules), Run(*rules)
    for run in (joined, whole):
        for _ in range(5):
            run.log(a=1.0, c=1.0, **({"b": 1.0} if run is whole else {}))

    changes = [[run.log(a=50.0, b=1.0, c=100.0) for _ in range(4)] for run in (joined, whole)]

    assert changes[0] == changes[1]
    assert "Record{} firing" in changes[0][0]
    assert any("Leap{a} firing" in words for words in changes[0])


def test_runs_of_one_trainer_share_what_was_compiled() -> None:
    rules = a_set(each("High", "metric > 5"))

    first, _ = step(rules, State(rules), Update(1, 1, 0.0, {"a": 1.0, "b": 1.0}))
    other, _ = step(rules, State(rules), Update(1, 1, 0.0, {"c": 1.0}))
    other, _ = step(rules, other, Update(2, 2, 0.0, {"b": 1.0, "a": 1.0}))

    assert first.rules is other.rules


@pytest.mark.parametrize("at_once", [True, False])
def test_so_many_metrics_of_a_role_are_judged_and_the_rest_is_counted(at_once: bool) -> None:
    names = [f"loss_{number}" for number in range(MOST_OF_A_ROLE + 6)]
    rules = RuleSet([each("High", "metric > 5")], roles=dict.fromkeys(names, "loss"))
    state = State(rules)
    updates = [dict.fromkeys(names, 9.0)] if at_once else [{name: 9.0} for name in names]

    for seq, readings in enumerate(updates, start=1):
        state, _ = step(rules, state, Update(seq, seq, 0.0, readings))

    assert len(state.alerts()) == MOST_OF_A_ROLE
    assert state.not_judged == (6 if at_once else 1)


def test_a_snapshot_through_json_keeps_every_life_and_window() -> None:
    rules = (
        each("Leap", "growth(metric, 3) > 0.5", hold=Span(updates=3)),
        each("Again", "count(metric > 5, 4) >= 2 and reports(metric) > 3", "eval_loss"),
        Rule("After", "fired(Leap, 2)"),
    )
    whole, split = Run(*rules), Run(*rules)
    rows = [
        {"a": float(at % 7), "b": float(at * at), **({"e": float(at)} if at % 3 == 0 else {})}
        for at in range(40)
    ]
    expected = [whole.log(**row) for row in rows]

    restored = []
    for at, row in enumerate(rows):
        if at % 5 == 2:
            split.through_json()
        restored.append(split.log(**row))

    assert restored == expected
    assert any(expected)
    assert split.state.snapshot() == whole.state.snapshot()


def test_another_rule_may_ask_whether_any_of_them_fired() -> None:
    run = Run(each("High", "metric > 5"), Rule("After", "fired(High, 1)"))

    assert run.log(a=1.0, b=9.0) == ["High{b} firing"]
    assert run.log(c=1.0) == ["After{} firing"]
    # It fires until a report of its own resolves it.
    assert run.log(c=1.0) == []
    assert run.log(b=1.0) == ["High{b} resolved"]
    assert run.log(b=1.0) == ["After{} resolved"]


def test_a_rule_may_be_asked_for_although_no_metric_of_its_role_was_reported() -> None:
    run = Run(each("High", "metric > 5"), Rule("After", "fired(High, 1)"))

    assert run.log(c=1.0) == []


def test_a_mistake_in_a_rule_with_each_is_told_when_the_set_is_made() -> None:
    with pytest.raises(RuleError, match="names no rule"):
        a_set(each("High", "metric > 5 and fired(Nobody, 3)"))


def test_a_new_attempt_forgets_windows_and_keeps_levels_for_before() -> None:
    run = Run(each("Lost", "level(metric, 3) > 2 * before(metric, 3)"))
    for _ in range(5):
        run.log(a=1.0)
    run.attempt = 2

    changes = [run.log(a=3.0) for _ in range(4)]

    assert changes == [[], [], ["Lost{a} firing"], []]


def test_what_a_level_was_before_is_kept_through_json_and_a_short_attempt() -> None:
    run = Run(each("Lost", "level(metric, 3) > 2 * before(metric, 3)"))
    for _ in range(5):
        run.log(a=1.0)
    run.attempt = 2
    run.log(a=9.0)
    run.attempt = 3
    run.log(a=3.0)
    run.through_json()

    assert [run.log(a=3.0) for _ in range(2)] == [[], ["Lost{a} firing"]]


def test_a_rule_renamed_goes_on_from_its_old_name() -> None:
    run = Run(Rule("Old", "a > 5", keep=Span(updates=9)))
    assert run.log(a=9.0) == ["Old{} firing"]

    run.through_json(a_set(Rule("New", "a > 5", formerly=("Old",), keep=Span(updates=9))))

    assert run.state.firing() == ("New",)
    assert run.log(a=9.0) == []


def test_a_rule_that_became_one_for_each_goes_on_for_the_metric_that_its_reason_named() -> None:
    run = Run(Rule("Old", "train/loss > 5"), aliases=[Alias("b", "train/loss")])
    assert run.log(a=1.0, b=9.0) == ["Old{} firing"]
    new = each("New", "metric > 5", formerly=("Old",))

    run.through_json(a_set(new, aliases=[Alias("b", "train/loss")]))

    assert run.log(a=1.0, b=9.0) == []
    assert run.state.alerts() == ((run.rules.rules[0], "b"),)
    assert run.log(a=1.0, b=1.0) == ["New{b} resolved"]


def test_a_window_kept_under_a_canonical_name_is_one_of_the_reported_metrics() -> None:
    aliases = [Alias("b", "train/loss")]
    run = Run(Rule("Old", "spike(train/loss, 10) > 3"), aliases=aliases)
    for _ in range(12):
        run.log(a=1.0, b=1.0)

    run.through_json(a_set(each("New", "spike(metric, 10) > 3"), aliases=aliases))

    # Known at once: the window of `b` was full, that of `a` begins.
    assert run.log(a=9.0, b=9.0) == ["New{b} firing"]


def test_what_no_rule_takes_up_is_forgotten_in_time() -> None:
    run = Run(Rule("Old", "spike(c, 10) > 3"))
    for _ in range(12):
        run.log(c=9.0)
    run.through_json(a_set(each("New", "metric > 5")))
    assert "MedianWindow(abs(c), 10)" in run.state.snapshot()["windows"]

    for _ in range(101):
        run.log(a=1.0)

    assert "MedianWindow(abs(c), 10)" not in run.state.snapshot()["windows"]


def test_others_may_use_an_old_name() -> None:
    rules = a_set(
        each("New", "metric > 5", formerly=("Old",)),
        Rule("After", "fired(Old, 1)", inhibited_by=("Old", "Else")),
    )

    assert rules.rules[1].inhibited_by == ("New", "Else")
    assert rules.names_of("Old") == ("New",)
    assert rules.names_of("New") == ("New",)
    state, _ = step(rules, State(rules), Update(1, 1, 0.0, {"a": 9.0}))
    _, transitions = step(rules, state, Update(2, 2, 0.0, {"a": 9.0}))
    assert [t.rule for t in transitions] == ["After"]


def test_an_old_name_that_another_rule_has_now_is_that_rule() -> None:
    rules = a_set(Rule("New", "a > 5", formerly=("Old",)), Rule("Old", "b > 5"))

    assert rules.names_of("Old") == ("Old",)


def test_tags_leave_out_rules_with_each_too() -> None:
    rules = a_set(each("Only", "metric > 5", where={"env": "x"}), Rule("All", "fired(Only, 2)"))

    chosen = rules.for_tags({})
    _, transitions = step(chosen, State(chosen), Update(1, 1, 0.0, {"a": 9.0}))

    assert transitions == ()


def test_what_the_guard_tells_alone_ages_nothing_and_leaves_nothing_missing() -> None:
    rules = RuleSet(
        [
            Rule("Gone", "missing(a, 1)"),
            Rule("Old", "age() > 3"),
            Rule("Absent", "not present(a)"),
            Rule("Skips", "count(guard/skipped > 0, 3) >= 3"),
            Rule("Dark", "count(not present(a), 3) >= 2"),
        ]
    )
    state = State(rules)
    fired = []

    for seq in range(1, 7):
        readings = {"guard/skipped": 1.0} if seq > 1 else {"a": 1.0, "guard/skipped": 0.0}
        state, transitions = step(rules, state, Update(seq, seq, 0.0, readings))
        fired += [(t.rule, t.seq) for t in transitions]

    assert fired == [("Skips", 4)]
    assert state.age == 1


def test_what_the_first_releases_guard_said_of_a_step_is_no_update_either() -> None:
    rules = RuleSet([Rule("Baseline", "spike(train/grad_norm, 3) > 100"), Rule("Old", "age() > 3")])
    state = State(rules)
    for seq in range(1, 4):
        readings = {"train/grad_norm": 1.0, "train/loss": 1.0}
        state, _ = step(rules, state, Update(seq, seq, 0.0, readings))
    event = {"kind": "guard", "verdict": "skip"}

    for seq in range(4, 9):
        update = Update(seq, seq, 0.0, {"train/grad_norm": 1e6, "guard/skipped": 1.0}, event)
        state, _ = step(rules, state, update)
    state, transitions = step(
        rules, state, Update(9, 9, 0.0, {"train/grad_norm": 1e3, "train/loss": 1.0})
    )

    assert state.age == 4
    assert [t.rule for t in transitions] == ["Old"]
    assert state.firing() == ("Baseline", "Old")


def test_what_stood_alone_for_its_role_stands_on_when_another_joins_it() -> None:
    run = Run(each("Any", "metric > 99"), Rule("High", "train/loss > 5"))

    assert run.log(a=1.0) == []
    assert run.log(b=1.0) == []
    assert run.log(a=9.0) == ["High{} firing"]
    run.through_json()
    assert run.log(a=1.0) == ["High{} resolved"]


def test_of_two_that_come_together_none_stands_for_their_role() -> None:
    run = Run(each("Any", "metric > 99"), Rule("High", "train/loss > 5"))

    assert run.log(a=9.0, b=9.0) == []
