"""Several sources of one run, told as one: nothing twice, nothing lost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from watchstep.outside.merging import SETTLE_S, WAIT_S, MergedUpdate, Merger, Source
from watchstep.postmortem.readers import open_logs
from watchstep.postmortem.readers.logs import Row
from watchstep.postmortem.readers.stream import ConsoleReader

ALIASES = {"loss": "train/loss"}


def merger() -> Merger:
    return Merger(lambda name: ALIASES.get(name, name))


def rows(*pairs: tuple[int | None, dict[str, float]]) -> list[Row]:
    return [Row(dict(readings), step=step) for step, readings in pairs]


def readings(updates: list[MergedUpdate]) -> list[tuple[int, dict[str, float]]]:
    return [(update.step, update.readings) for update in updates]


def later(now: float) -> float:
    return now + SETTLE_S + WAIT_S


def test_what_two_sources_say_of_one_step_is_one_update_with_the_richer_ones_numbers() -> None:
    merging, console, file = merger(), Source("console", 12), Source("log.jsonl", 2)

    merging.add(console, rows((5, {"loss": 0.51})), 0.0)
    merging.add(file, rows((5, {"train/loss": 0.5123, "grad_norm": 2.0})), 0.1)

    merged = merging.ready(later(0.1))
    assert readings(merged) == [(5, {"train/loss": 0.5123, "grad_norm": 2.0})]


def test_an_update_does_not_wait_for_a_source_that_is_late_and_is_not_told_again_by_it() -> None:
    merging, console, file = merger(), Source("console", 12), Source("events", 3)
    merging.add(console, rows((5, {"loss": 0.51})), 0.0)
    first = merging.ready(later(0.0))

    merging.add(file, rows((5, {"train/loss": 0.5123})), 30.0)

    assert readings(first) == [(5, {"loss": 0.51})]
    assert merging.ready(later(30.0)) == []


def test_what_only_the_late_source_tells_is_told() -> None:
    merging, console, file = merger(), Source("console", 12), Source("events", 3)
    merging.add(console, rows((5, {"loss": 0.51})), 0.0)
    merging.ready(later(0.0))

    merging.add(file, rows((5, {"train/loss": 0.5123, "eval/accuracy": 0.9})), 30.0)

    assert readings(merging.ready(later(30.0))) == [(5, {"eval/accuracy": 0.9})]


def test_a_metric_whose_source_has_fallen_silent_is_taken_from_another() -> None:
    merging, console, file = merger(), Source("console", 12), Source("log.csv", 9)
    merging.add(console, rows((5, {"loss": 0.5})), 0.0)
    merging.ready(later(0.0))

    for step in (5, 6, 7, 8):
        merging.add(file, rows((step, {"loss": 0.4})), 100.0 + step)

    assert readings(merging.ready(later(110.0))) == [(7, {"loss": 0.4}), (8, {"loss": 0.4})]


def test_a_richer_source_that_tells_more_rarely_does_not_hide_the_other_one() -> None:
    merging, console, events = merger(), Source("console", 12), Source("events", 3)
    merged: list[MergedUpdate] = []

    for step in range(100):
        now = 0.1 * step
        merging.add(console, rows((step, {"loss": 0.5})), now)
        if step % 50 == 0:
            merging.add(events, rows((step, {"train/loss": 0.51})), now + 0.01)
        merged += merging.ready(now + 0.05)
    merged += merging.ready(later(10.0))

    # At the first report nothing tells yet how often each comes.
    assert len([update for update in merged if update.readings]) >= 80
    assert merged[-1].readings == {"loss": 0.5}


def test_a_whole_log_that_is_written_at_each_save_does_not_end_the_console() -> None:
    merging, console, state = merger(), Source("console", 12), Source("trainer_state.json", 8)
    merged: list[MergedUpdate] = []

    for number in range(1, 60):
        now = 5.0 * number
        merging.add(console, rows((number, {"loss": 0.5})), now)
        if number % 20 == 0:
            steps = range(10 * (number - 19), 10 * number + 1, 10)
            merging.add(state, rows(*((step, {"loss": 0.5}) for step in steps)), now + 3.0)
        merged += merging.ready(now + 4.0)
    merged += merging.ready(later(1000.0))

    assert [update.step for update in merged if update.readings] == list(range(1, 60))


def test_an_evaluation_of_the_same_step_joins_the_row_before_it() -> None:
    merging, console = merger(), Source("console", 12)

    merging.add(console, rows((5, {"loss": 0.5}), (5, {"val_loss": 0.6})), 0.0)

    assert readings(merging.ready(later(0.0))) == [(5, {"loss": 0.5, "val_loss": 0.6})]


def test_a_step_that_a_source_tells_twice_with_other_numbers_is_two_updates() -> None:
    merging, console = merger(), Source("console", 12)

    merging.add(console, rows((5, {"loss": 0.5}), (5, {"loss": 0.7})), 0.0)

    assert readings(merging.ready(later(0.0))) == [(5, {"loss": 0.5}), (5, {"loss": 0.7})]


def test_a_burst_of_printed_lines_is_told_in_order_with_the_steps_between_them_of_a_file() -> None:
    merging, console, file = merger(), Source("console", 12), Source("metrics.csv", 9)

    merging.add(console, rows((20, {"ppl": 9.0}), (40, {"ppl": 2.4})), 0.0)
    merging.add(file, rows(*((step, {"loss": 1.0}) for step in (10, 20, 30, 40))), 0.0)

    assert [update.step for update in merging.ready(later(0.0))] == [10, 20, 30, 40]


def test_a_resume_that_one_source_tells_of_counts_for_the_steps_of_another_after_it() -> None:
    merging, console, file = merger(), Source("console", 12), Source("metrics.csv", 9)
    resumed = Row({"ppl": 9.0}, step=40, resumed=True)

    merging.add(console, [*rows((20, {"ppl": 2.4})), resumed], 0.0)
    merging.add(file, rows(*((step, {"loss": 1.0}) for step in (10, 20, 30, 40, 50))), 0.0)

    attempts = [(update.step, update.attempt) for update in merging.ready(later(0.0))]
    assert attempts == [(10, 1), (20, 1), (30, 2), (40, 2), (50, 2)]


def test_rows_without_a_step_are_counted() -> None:
    merging, console = merger(), Source("console", 12)

    merging.add(console, rows((None, {"loss": 0.5}), (None, {"loss": 0.4})), 0.0)

    assert [update.step for update in merging.ready(later(0.0))] == [1, 2]


def test_a_long_log_that_comes_at_once_passes_whole_and_in_order() -> None:
    merging, file = merger(), Source("log.csv", 9)

    merging.add(file, rows(*((step, {"loss": 1.0}) for step in range(5_000))), 0.0)

    assert [update.step for update in merging.ready(later(0.0))] == list(range(5_000))


def test_words_of_a_stream_that_numbers_nothing_are_of_the_newest_step() -> None:
    merging, console, errors = merger(), Source("stdout", 12), Source("stderr", 12)
    merging.add(console, rows((89, {"loss": 0.51}), (90, {"loss": 0.5})), 0.0)
    first = merging.ready(later(0.0))

    merging.add(errors, [Row({}, event={"kind": "log", "text": "Traceback"})], 30.0)

    assert [update.step for update in first] == [89, 90]
    assert [(update.step, update.event) for update in merging.ready(later(30.0))] == [
        (90, {"kind": "log", "text": "Traceback"})
    ]


def nanogpt(first: int, last: int) -> str:
    return "".join(
        f"iter {at}: loss {3 - at / 100:.4f}, time 9.10ms\n" for at in range(first, last)
    )


@pytest.mark.parametrize(
    "text",
    [
        nanogpt(0, 70) + "Resuming training from out\n" + nanogpt(50, 90),
        nanogpt(0, 70) + "Resuming training from out\n" + nanogpt(50, 52),
        nanogpt(0, 70) + nanogpt(50, 90),
        nanogpt(0, 70) + nanogpt(0, 9),
        nanogpt(0, 70) + nanogpt(50, 52) + nanogpt(70, 90),
        nanogpt(0, 70) + nanogpt(50, 52),
        nanogpt(0, 90),
    ],
)
def test_a_console_has_the_attempts_that_the_post_mortem_of_the_same_bytes_finds(
    text: str, tmp_path: Path
) -> None:
    merging, console, reader = merger(), Source("console", 12), ConsoleReader()
    live: list[MergedUpdate] = []

    for number, line in enumerate(text.splitlines(keepends=True)):
        merging.add(console, reader.feed(line.encode()), float(number))
        live += merging.ready(number + 0.9)
    merging.add(console, reader.close(), 1e6)
    live += merging.ready(math.inf)

    path = tmp_path / "out.log"
    path.write_text(text)
    (log,) = open_logs([path])
    afterwards = [(update.attempt, update.step) for update in log.updates if update.readings]
    assert [(update.attempt, update.step) for update in live if update.readings] == afterwards


def told(*batches: tuple[Source, list[Row]]) -> dict[str, list[float]]:
    """Metric to all values that are told of it, where the batches come half a minute apart."""
    merging = merger()
    values: dict[str, list[float]] = {}
    for number, (source, batch) in enumerate(batches):
        merging.add(source, batch, 30.0 * number)
        for update in merging.ready(later(30.0 * number)):
            for name, value in update.readings.items():
                values.setdefault(name, []).append(value)
    return values


RETURNS = (31.0, 12.5, 47.0, 60.0)


def returns(name: str, *values: float) -> list[Row]:
    return rows(*((17 * at, {name: value}) for at, value in enumerate(values, 1)))


def test_a_quantity_that_two_sources_call_by_two_names_is_told_once() -> None:
    console, events = Source("console", 12), Source("events", 3)

    values = told(
        (console, returns("ep_return", *RETURNS)),
        (events, returns("rollouts/ep_return", *RETURNS)),
    )

    assert values == {"ep_return": list(RETURNS)}


def test_the_name_that_came_first_stays_whichever_source_is_ahead() -> None:
    console, events = Source("console", 12), Source("events", 3)

    values = told(
        (events, returns("rollouts/ep_return", *RETURNS[:2])),
        (console, returns("ep_return", *RETURNS)),
        (events, returns("rollouts/ep_return", *RETURNS)[2:]),
    )

    assert set(values) == {"rollouts/ep_return"}
    assert len(values["rollouts/ep_return"]) == len(RETURNS)


def test_names_with_one_ending_are_two_quantities_as_soon_as_their_values_differ() -> None:
    console, events = Source("console", 12), Source("events", 3)

    values = told(
        (console, returns("ep_return", *RETURNS)),
        (events, returns("rollouts/ep_return", RETURNS[0], 90.0, 91.0, 92.0)),
    )

    assert values["rollouts/ep_return"] == [90.0, 91.0, 92.0]


def test_equal_values_of_one_source_or_of_different_roles_are_two_quantities() -> None:
    console, events = Source("console", 12), Source("events", 3)

    both = rows((17, {"a/ep_return": 31.0, "b/ep_return": 31.0}))
    one_source = told((console, both))
    two_roles = told((console, returns("loss", *RETURNS)), (events, returns("eval/loss", *RETURNS)))

    assert set(one_source) == {"a/ep_return", "b/ep_return"}
    assert set(two_roles) == {"loss", "eval/loss"}
