"""Every window against the plain definition, over outliers, gaps and clocks."""

import json
import math
import statistics
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchstep.core.arithmetic import ratio
from watchstep.core.engine import RuleSet, State, step
from watchstep.core.extremes import AttemptExtremes, ExtremeWindow
from watchstep.core.rules import Rule
from watchstep.core.running_stats import MomentWindow, TrendWindow
from watchstep.core.sorted_windows import PATIENCE, Backlog, Feed, LevelWindow, MedianWindow
from watchstep.core.spans import Span
from watchstep.core.updates import Update
from watchstep.core.windows import CountWindow, RecordWindow, RepeatWindow, fewest

numbers = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1e30, -1e30, 1e-30, 7.0]))
spans = st.one_of(
    st.integers(1, 30).map(lambda n: Span(updates=n)),
    st.sampled_from([2.0, 7.5, 40.0]).map(lambda s: Span(seconds=s)),
)
streams = st.lists(st.tuples(numbers, st.sampled_from([0.0, 1.0, 3.0])), max_size=90)


def kept(history: list[tuple[float, float]], span: Span) -> list[float]:
    """What the window holds by its definition."""
    if span.updates:
        return [value for value, _ in history[-span.updates :]]
    now = history[-1][1] if history else 0.0
    return [value for value, time in history if time >= now - (span.seconds or 0.0)]


def fitted_slope(values: list[float]) -> float:
    middle = (len(values) - 1) / 2
    mean = math.fsum(values) / len(values)
    over = math.fsum((n - middle) * (value - mean) for n, value in enumerate(values))
    return over / math.fsum((n - middle) ** 2 for n in range(len(values)))


def close(value: float, expected: float, values: list[float], *, power: int = 1) -> bool:
    """Equality up to the rounding of values of this size, and to squares that underflow."""
    size = max(map(abs, values), default=1.0) or 1.0
    return math.isclose(value, expected, rel_tol=1e-9, abs_tol=max(size**power * 1e-9, 1e-150))


ASKED: dict[str, tuple[type, Callable, Callable]] = {
    "median": (MedianWindow, MedianWindow.median, statistics.median),
    "smallest": (ExtremeWindow, ExtremeWindow.smallest, min),
    "largest": (ExtremeWindow, ExtremeWindow.largest, max),
    "mean": (MomentWindow, MomentWindow.mean, lambda v: math.fsum(v) / len(v)),
    "std": (MomentWindow, MomentWindow.std, statistics.pstdev),
}


def pushes(window, stream):
    """All that the window was given so far, after each value of the stream."""
    history, time = [], 0.0
    for value, pause in stream:
        time += pause
        window.push(value, time)
        history.append((value, time))
        yield history


@pytest.mark.parametrize("name", ASKED)
@settings(max_examples=60, deadline=None)
@given(span=spans, stream=streams)
def test_a_window_says_what_its_definition_says(name: str, span: Span, stream) -> None:
    kind, statistic, defined = ASKED[name]
    window = kind(span)

    for history in pushes(window, stream):
        values = kept(history, span)
        result = statistic(window)

        if len(values) < fewest(span):
            assert math.isnan(result)
        else:
            assert close(result, defined(values), values)


@settings(max_examples=60, deadline=None)
@given(span=spans, stream=streams)
def test_a_slope_is_the_least_squares_slope_of_what_the_window_holds(span: Span, stream) -> None:
    window = TrendWindow(span)

    *_, history = [[], *pushes(window, stream)]
    values = kept(history, span)

    if len(values) < max(2, fewest(span)):
        assert math.isnan(window.slope())
    else:
        assert close(window.slope(), fitted_slope(values), values)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.lists(st.tuples(st.floats(-100, 100), st.booleans()), max_size=60))
def test_a_slope_is_the_same_however_seldom_it_was_asked_for(length: int, stream) -> None:
    seldom, always = TrendWindow(Span(updates=length)), TrendWindow(Span(updates=length))

    for value, compared in stream:
        seldom.push(value, 0.0)
        always.push(value, 0.0)
        always.slope()
        if compared:
            assert repr(seldom.slope()) == repr(always.slope())

    assert seldom.dump() == always.dump()


levels = st.one_of(st.floats(-9, 9), st.sampled_from([0.0, 0.5, 1e300, 5e-324, math.nan]))


@pytest.mark.parametrize("kind", [LevelWindow, MedianWindow])
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.lists(st.tuples(levels, st.booleans()), max_size=150))
def test_a_window_that_is_seldom_asked_says_what_one_that_is_always_asked_says(
    kind, length: int, stream
) -> None:
    seldom, always = kind(Span(updates=length)), kind(Span(updates=length))
    backlog = Backlog()
    seldom.follow(backlog, Feed(0, 1, magnitude=True, now=True))

    for value, compared in stream:
        backlog.add((7.0, value))
        if math.isfinite(value):
            always.push(abs(value), 0.0)
        always.dump()
        if compared:
            assert repr(seldom.dump()) == repr(always.dump())
        assert len(seldom.values) <= length + PATIENCE
        assert len(always.values) <= length + PATIENCE

    assert repr(seldom.dump()) == repr(always.dump())


@pytest.mark.parametrize("kind", [MedianWindow, ExtremeWindow, MomentWindow, TrendWindow])
def test_a_huge_outlier_leaves_no_trace_once_it_has_left(kind: type) -> None:
    touched, clean = kind(Span(updates=10)), kind(Span(updates=10))
    for value in [1.0, 1e30, -1e30, 1e200]:
        touched.push(value, 0.0)

    for number in range(30):
        touched.push(math.sin(number), 0.0)
        clean.push(math.sin(number), 0.0)

    for name in ("median", "mean", "std", "slope", "smallest", "largest"):
        if hasattr(kind, name):
            expected = getattr(clean, name)()
            assert math.isclose(getattr(touched, name)(), expected, rel_tol=1e-12)


def pushed(window, value: float, time: float) -> None:
    if isinstance(window, CountWindow):
        window.tally(float(value > 0), time)
    else:
        window.push(value, time)


@pytest.mark.parametrize(
    "kind", [MedianWindow, ExtremeWindow, MomentWindow, TrendWindow, CountWindow, RepeatWindow]
)
@settings(max_examples=30, deadline=None)
@given(span=spans, stream=streams, after=streams)
def test_a_window_read_back_goes_on_exactly_as_the_one_written(kind, span, stream, after) -> None:
    window, time = kind(span), 0.0
    for value, pause in stream:
        time += pause
        pushed(window, value, time)

    copy = kind(span)
    copy.load(json.loads(json.dumps(window.dump(), allow_nan=False)))

    for value, pause in after:
        time += pause
        for either in (window, copy):
            pushed(either, value, time)
        assert json.dumps(copy.dump()) == json.dumps(window.dump())


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=30), st.lists(numbers, max_size=30))
def test_extremes_go_on_from_what_the_first_release_wrote_down(before, after) -> None:
    span, count = Span(updates=12), len(before)
    held = list(enumerate(before, start=1))[-12:]
    low = [(x, n) for n, x in held if all(x < later for m, later in held if m > n)]
    high = [(x, n) for n, x in held if all(x > later for m, later in held if m > n)]
    window = ExtremeWindow(span)

    window.load([low, high, [], count, len(held)])

    assert [[x for x, _ in queue] for queue in window.dump()[:2]] == [
        [x for x, _ in queue] for queue in (low, high)
    ]
    for number, value in enumerate(after, start=1):
        window.push(value, 0.0)
        values = [*before, *after[:number]][-12:]
        if len(values) >= fewest(span):
            assert (window.smallest(), window.largest()) == (min(values), max(values))


@pytest.mark.parametrize("kind", [MomentWindow, TrendWindow])
def test_squares_beyond_the_range_of_floats_still_make_a_snapshot_of_plain_json(kind) -> None:
    window = kind(Span(updates=4))
    for value in [1e200, -1e200, 1.7e308, -1.7e308]:
        window.push(value, 0.0)

    copy = kind(Span(updates=4))
    copy.load(json.loads(json.dumps(window.dump(), allow_nan=False)))

    assert repr(copy.dump()) == repr(window.dump())


@pytest.mark.parametrize("values", [[1.7e308] * 12, [1.7e308, -1.7e308] * 6, [1e200, 3e200] * 6])
def test_the_largest_floats_have_a_mean_and_a_deviation_too(values: list[float]) -> None:
    window = MomentWindow(Span(updates=12))
    for value in [*values, *values]:
        window.push(value, 0.0)
    mean = sum(map(Fraction, values)) / len(values)
    squares = sum((Fraction(value) - mean) ** 2 for value in values) / len(values)

    assert math.isclose(window.mean(), float(mean), abs_tol=1e290)
    assert math.isclose(window.std(), math.isqrt(int(squares)), rel_tol=1e-9)

    for number in range(12):
        window.push(float(number), 0.0)

    assert math.isclose(window.mean(), 5.5)
    assert math.isclose(window.std(), math.sqrt(143 / 12))


def test_a_record_is_measured_against_all_that_came_before() -> None:
    window = RecordWindow()
    for value in [1.0, -4.0, 2.0]:
        window.push(value, 0.0)

    assert window.times_largest(-8.0, 3) == 2.0
    assert math.isnan(window.times_largest(8.0, 4))
    assert math.isnan(window.times_largest(math.nan, 1))
    assert window.times_largest(math.inf, 1) == math.inf
    assert window.lowest(3) == -4.0
    assert window.last == 2.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1.0, 0.0, math.nan]), max_size=60), st.integers(1, 12))
def test_a_count_covers_the_last_updates_that_could_be_told(held, length: int) -> None:
    window, conditions = CountWindow(Span(updates=length)), []

    for condition in held:
        count = window.tally(condition, 0.0)
        if math.isnan(condition):
            assert math.isnan(count)
        else:
            conditions.append(condition)
            assert count == sum(conditions[-length:])


def test_flat_needs_a_full_window_and_honours_its_tolerance() -> None:
    window = ExtremeWindow(Span(updates=3))
    window.push(100.0, 0.0)
    window.push(100.0, 0.0)
    assert math.isnan(window.is_flat(0.0))

    window.push(101.0, 0.0)

    assert window.is_flat(0.0) == 0.0
    assert window.is_flat(0.01) == 1.0


@given(st.lists(st.floats(-9.0, 9.0), min_size=10, max_size=40))
def test_the_longest_window_keeps_its_extremes_alone_and_reads_what_a_window_wrote(values) -> None:
    longest = Span(updates=100_000)
    whole, window = AttemptExtremes(longest), ExtremeWindow(longest)
    for value in values:
        whole.push(value, 0.0)
        window.push(value, 0.0)

    for kind, dumped in ((AttemptExtremes, window.dump()), (ExtremeWindow, whole.dump())):
        loaded = kind(longest)
        loaded.load(dumped)
        assert (loaded.smallest(), loaded.largest()) == (min(values), max(values))
    assert len(whole.dump()[0]) == 1
    assert not whole.values


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.5]), max_size=40), st.integers(1, 12))
def test_values_repeat_exactly_where_a_window_without_tolerance_is_flat(values, length) -> None:
    repeats, window = RepeatWindow(), ExtremeWindow(Span(updates=length))

    for value in values:
        repeats.push(value, 0.0)
        window.push(value, 0.0)

        assert repr(repeats.lasts(length)) == repr(window.is_flat(0.0))


def test_a_window_of_seconds_never_outgrows_the_longest_window(monkeypatch) -> None:
    for module in ("sorted_windows", "extremes", "running_stats"):
        monkeypatch.setattr(f"watchstep.core.{module}.LONGEST_WINDOW", 20)
    kinds = (MedianWindow, ExtremeWindow, MomentWindow, TrendWindow)
    windows = [kind(Span(seconds=1e6)) for kind in kinds]

    for number in range(50):
        for window in windows:
            window.push(float(number), float(number))

    assert len(windows[0].values) == 20
    assert len(windows[1].values) == 20
    assert len(windows[2].values) == 20
    assert windows[3].moments()[0] == 20.0
    assert windows[1].smallest() == 30.0


@pytest.mark.parametrize(
    ("a", "b", "quotient"),
    [(1.0, 0.0, math.inf), (-1.0, 0.0, -math.inf), (1.0, -0.0, -math.inf), (6.0, 3.0, 2.0)],
)
def test_division_follows_ieee_754(a: float, b: float, quotient: float) -> None:
    assert ratio(a, b) == quotient


def test_zero_over_zero_is_unknown() -> None:
    assert math.isnan(ratio(0.0, 0.0))
    assert math.isnan(ratio(math.nan, 0.0))


def test_a_window_in_a_rule_holds_previous_values_only_and_only_finite_ones() -> None:
    rules = RuleSet([Rule("R", "a > 2 * median(a, 10)")])
    state = State(rules)
    readings = [1.0] * 5 + [math.nan, math.inf] + [1.0] * 5 + [2.1]
    fired = []

    for number, value in enumerate(readings, start=1):
        state, transitions = step(rules, state, Update(number, number, 0.0, {"a": value}))
        fired.extend(transition.seq for transition in transitions)

    # The infinity comes before the window has ten values; the thirteenth doubles the median.
    assert fired == [13]
