"""Lines on charts, from the rules themselves."""

import pytest

from watchstep.core.engine import RuleSet
from watchstep.core.rules import Alias, Rule

RULES = RuleSet(
    [
        Rule("High", "train/loss > 10", severity="critical"),
        Rule("Often", "count(train/loss > 5, 5) >= 3"),
        Rule("Either", "a < 1 or abs(b) >= 2", severity="info"),
        Rule("Both", "a > 7 and b > 7"),
        Rule("Window", "a > 3 * median(a, 10)"),
        Rule("Bound", "train/max > 1.5 * bound(train/count)"),
        Rule("Grown", "level(metric, 5) > 100", each=("loss",), severity="info"),
        Rule("Any", "nonfinite(*loss*)"),
    ],
    aliases=[Alias("entropy", "train/loss", -1.0)],
    roles={"train/loss": "loss", "other_loss": "loss", "entropy": "entropy"},
)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            "train/loss",
            {
                ("High", 10.0, "above"),
                ("Often", 5.0, "above"),
                ("Grown", 100.0, "above"),
                ("Grown", -100.0, "below"),
            },
        ),
        ("a", {("Either", 1.0, "below")}),
        ("b", {("Either", 2.0, "above"), ("Either", -2.0, "below")}),
        ("entropy", {("High", -10.0, "below"), ("Often", -5.0, "below")}),
        ("other_loss", {("Grown", 100.0, "above"), ("Grown", -100.0, "below")}),
        ("unheard", set()),
    ],
)
def test_a_line_stands_where_a_rule_begins_to_hold_by_itself(metric, expected) -> None:
    lines = {(line.rule, line.value, line.direction) for line in RULES.thresholds(metric)}

    assert lines == expected


def test_a_limit_that_moves_with_another_metric_is_that_of_now() -> None:
    lines = RULES.thresholds("train/max", {"train/count": 101.0})

    assert [line.value for line in lines] == [15.0]
    assert RULES.thresholds("train/max") == []
