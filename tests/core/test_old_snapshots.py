"""What the version before wrote down goes on here as it would have gone on there.

`fixtures/state_of_57daa44.json` was written by commit 57daa44, whose rules were generated code:
rules, the snapshot after 37 random updates, the 63 after it with the transitions they caused there,
and the snapshot at the end.
"""

import json
from pathlib import Path

import pytest

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.rules import Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Update

WRITTEN = json.loads((Path(__file__).parent / "fixtures" / "state_of_57daa44.json").read_bytes())


def rules() -> RuleSet:
    made = []
    for entry in WRITTEN["rules"]:
        spans = {key: Span(updates=entry[key]) for key in ("hold", "keep") if key in entry}
        made.append(Rule(**{**entry, **spans}))
    return RuleSet(made)


def updates() -> list[Update]:
    return [
        Update(seq, at, time, {name: float(value) for name, value in readings.items()})
        for seq, at, time, readings in WRITTEN["updates"]
    ]


def test_an_old_snapshot_goes_on_with_the_same_transitions_and_ends_in_the_same_state() -> None:
    chosen = rules()
    state = State.restore(chosen, WRITTEN["snapshot"])

    transitions = []
    for update in updates():
        state, caused = step(chosen, state, update)
        transitions += [[t.rule, t.change, t.seq, in_order(t.reason)] for t in caused]

    # Of several readings the one that decided stands first since then.
    assert transitions == [
        [rule, change, seq, in_order(reason)]
        for rule, change, seq, _, reason in WRITTEN["transitions"]
    ]
    end = json.loads(json.dumps(state.snapshot(), allow_nan=False))
    written = without_idle_times(WRITTEN["end"])
    assert end["windows"].keys() == written["windows"].keys()
    for key, window in written["windows"].items():
        # Sums may differ in the last digits, by the order in which they were made.
        assert json.dumps(rounded(end["windows"][key])) == json.dumps(rounded(window)), key
    assert in_order(
        {name: life for name, life in end.items() if name in WRITTEN["end"]}
    ) == in_order({**WRITTEN["end"], "windows": end["windows"]})


def test_an_old_snapshot_read_and_written_again_says_the_same() -> None:
    snapshot = WRITTEN["snapshot"]

    again = json.loads(json.dumps(State.restore(rules(), snapshot).snapshot()))

    assert {key: again[key] for key in snapshot} == without_idle_times(snapshot)


def without_idle_times(snapshot):
    """A snapshot without times of conditions that are counted in updates: nothing needs them."""
    counted = {
        key: [[held, 0.0] for held, _ in window]
        for key, window in snapshot["windows"].items()
        if key.startswith("CountWindow") and "s)" not in key
    }
    return {**snapshot, "windows": {**snapshot["windows"], **counted}}


def in_order(value):
    """A document whose reasons name their readings by the alphabet."""
    if isinstance(value, dict):
        return {name: in_order(part) for name, part in value.items()}
    if isinstance(value, list):
        return [in_order(part) for part in value]
    return ", ".join(sorted(value.split(", "))) if isinstance(value, str) else value


def rounded(value):
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


@pytest.mark.parametrize("window", WRITTEN["snapshot"]["windows"])
def test_no_window_of_an_old_snapshot_is_left_without_a_reader(window: str) -> None:
    assert window in {slot.key for slot in rules().program.windows}
