"""Whatever a user logs or names, the judgement sees the next NaN and halts."""

from __future__ import annotations

import argparse
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import watchstep
from hook.kit_hook import updates_of
from watchstep.hook.readings import MOST_NAMES, MOST_READINGS
from watchstep.wire.names import METRIC_NAME, RUN_NAME


class HostileNumber:
    def __float__(self) -> float:
        raise ZeroDivisionError

    @property
    def size(self) -> int:
        raise ZeroDivisionError


class HostileMapping(Mapping[str, float]):
    def __getitem__(self, key: str) -> float:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    def __len__(self) -> int:
        return 1


class HostileText:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def nested(depth: int) -> dict[str, Any]:
    return {"deeper": nested(depth - 1)} if depth else {"x": 1.0}


ITSELF: dict[str, Any] = {}
ITSELF["itself"] = ITSELF

ODD_METRICS = {
    "300 of them": {f"layer{n}/grad": 1.0 for n in range(300)},
    "10,000 of them": {f"layer{n}/grad": 1.0 for n in range(10_000)},
    "spaces": {"my loss": 1.0, "loss (train)": 2.0},
    "unicode": {"perte d'entraînement": 1.0, "損失": 2.0, "\ud800": 3.0},
    "300 characters": {"x" * 300: 1.0},
    "a newline": {"train/loss\n": 1.0},
    "no name": {"": 1.0},
    "keys that are no texts": {3: 1.0, None: 2.0, (1, 2): 3.0, b"x": 4.0},
    "a key without a text": {HostileText(): 1.0},
    "texts": {"note": "text", "nothing": None},
    "a hostile number": {"x": HostileNumber()},
    "a hostile mapping": {"x": HostileMapping()},
    "deep": nested(50),
    "itself": ITSELF,
    "images": {"x": np.zeros((3, 64, 64))},
    "signalling": {"x": Decimal("sNaN")},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("kind", ODD_METRICS)
def test_a_nan_beside_odd_metrics_halts(kind: str, order: str, make: Any) -> None:
    watch = make(on_critical="halt", mode="offline")
    odd = ODD_METRICS[kind]

    for step in range(3):
        watch.log({**odd, "train/loss": 1.0}, step=step)
    nan = {"train/loss": math.nan}
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({**nan, **odd} if order == "first" else {**odd, **nan}, step=3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "odd", [5, "loss", None, [1.0], {"kind": "no such"}, {}, {"kind": HostileText()}, ITSELF]
)
def test_a_nan_beside_an_odd_event_halts(odd: Any, make: Any) -> None:
    watch = make(on_critical="halt", mode="offline")

    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan}, event=odd)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("odd", [5, 0.5, "loss", [1.0], HostileMapping(), np.zeros(3), object()])
def test_metrics_that_are_no_mapping_cost_only_themselves(odd: Any, make: Any) -> None:
    watch = make(on_critical="halt", mode="offline")

    watch.log(odd)
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "step", [-1, 2**80, "7", "x", math.nan, 1.5, None, HostileText(), np.int64(4), np.zeros(2)]
)
def test_any_step_gives_one_that_can_be_sent(step: Any, make: Any) -> None:
    watch = make(on_critical="halt", mode="offline")
    watch.log({"train/loss": 1.0}, step=6)

    watch.log({"train/loss": 1.0}, step=step)
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan}, step=step)

    assert 0 <= watch._stream.step < 2**63


@dataclass
class Configuration:
    rate: float = 1e-3
    layers: list[int] = field(default_factory=lambda: [64, 64])


def recursive() -> dict[str, Any]:
    config: dict[str, Any] = {"name": "x"}
    config["itself"] = config
    return config


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "argument",
    [
        {"run": "ALE/Pong-v5__ppo__1"},
        {"run": "läuft"},
        {"run": 7},
        {"run": "x" * 500},
        {"run": HostileText()},
        {"url": "127.0.0.1:1"},
        {"url": "ftp://host"},
        {"url": "http://user:secret@host"},
        {"url": 5},
        {"on_critical": "Halt"},
        {"on_critical": "rollback"},
        {"token": "snow ☃"},
        {"mode": "onlin"},
        {"project": "läuft/\n"},
        {"tags": {"seed": 3, "ü": [1], "x" * 90: "y" * 900, "none": None}},
        {"tags": {str(n): n for n in range(500)}},
        {"tags": ["a", "b"]},
        {"config": argparse.Namespace(rate=1e-3, device=HostileText())},
        {"config": Configuration()},
        {"config": recursive()},
        {"config": {"prompt": "x" * 2_000_000}},
        {"config": {str(n): "x" * 100 for n in range(100_000)}},
        {"config": HostileMapping()},
        {"config": 3},
        {"keep": "three"},
        {"exit_s": math.nan},
        {"directory": 5},
        {"rules": 5},
        {"nonsense": 1},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_an_argument_that_cannot_be_used_costs_neither_the_guard_nor_the_halt(
    argument: dict[str, Any], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    watch = make(**{"on_critical": "halt", "exit_s": 0.0, **argument})
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    assert watch.guard(optimizer) is not None
    before = layer.weight.clone()

    (layer(torch.ones(1, 1)) * math.nan).sum().backward()
    optimizer.step()

    assert torch.equal(layer.weight, before)
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("word", ["", "hlat", "stop", True])
def test_a_word_that_does_not_ask_for_a_halt_alerts_only(word: Any, make: Any) -> None:
    watch = make(on_critical=word)

    watch.log({"train/loss": math.nan})

    assert watch.options.on_critical == "alert"
    assert watch.firing


@pytest.mark.parametrize("wrong", ["", "hlat", "stop", True])
def test_one_warning_says_what_an_argument_must_be(wrong: Any, make: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(run="a b", on_critical=wrong, url="nonsense:x")

    (warning,) = caught
    text = str(warning.message)
    assert "on_critical: must be one of alert, halt, rollback" in text
    assert "'a b' is called 'a_b-" in text
    assert "url" in text


def test_runs_whose_names_are_mapped_stay_two_and_have_the_same_name_again(make: Any) -> None:
    with pytest.warns(UserWarning, match="is called"):
        names = [
            make(run=name, mode="offline").run
            for name in ("ALE/Pong-v5", "ALE_Pong-v5", "ALE?Pong-v5", "ALE/Pong-v5")
        ]

    assert names[1] == "ALE_Pong-v5"
    assert names[0] == names[3]
    assert len(set(names)) == 3
    assert all(RUN_NAME.match(name) for name in names)


def test_names_are_mapped_with_a_word_each_and_two_never_become_one(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)
    names = ["a b", "a_b", "a?b", "a\tb", "x" * 128, "x" * 129, "x" * 130]

    with pytest.warns(UserWarning, match="calls the metric 'a b' 'a_b-") as caught:
        watch.log({name: float(at) for at, name in enumerate(names)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.log({name: float(at) for at, name in enumerate(names)})

    assert all(
        repr(name)[:50] in str(caught[0].message) for name in names if not METRIC_NAME.match(name)
    )
    assert list(updates[0].readings.values()) == [float(at) for at in range(len(names))]
    assert updates[1].readings == updates[0].readings


def test_names_that_meet_when_they_are_flattened_stay_two(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)

    with pytest.warns(UserWarning, match="calls the metric"):
        watch.log({"a": {"b": 1.0}, "a/b": 2.0, 1: 3.0, "1": 4.0})

    assert sorted(updates[0].readings.values()) == [1.0, 2.0, 3.0, 4.0]


def test_what_is_over_the_limit_of_an_update_is_named_once_and_counted(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)
    metrics = {f"layer{n}/x": 1.0 for n in range(300)}

    with pytest.warns(UserWarning, match=r"leaves out 'layer25.+ takes 256 metrics, .+ 301"):
        watch.log({**metrics, "train/loss": 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.log({**metrics, "train/loss": 1.0})

    assert [len(update.readings) for update in updates] == [MOST_READINGS] * 2
    assert "train/loss" in updates[0].readings
    assert watch.losses()["reading refused: more than 256 metrics"] == 90


def test_own_readings_have_room_beside_as_many_metrics_as_an_update_takes(make: Any) -> None:
    torch = pytest.importorskip("torch")
    watch = make(mode="offline")
    updates = updates_of(watch)
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    watch.guard(optimizer)

    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    with pytest.warns(UserWarning, match="leaves out"):
        watch.log({f"layer{n}/x": 1.0 for n in range(MOST_READINGS)})

    assert len(updates[0].readings) == MOST_READINGS
    assert "train/grad_norm" in updates[0].readings


def test_a_run_has_no_more_names_than_the_service_takes_and_a_loss_that_comes_late_is_read(
    make: Any,
) -> None:
    watch = make(mode="offline", on_critical="halt")
    updates = updates_of(watch)

    for at in range(9):
        watch.log({f"layer{at}/{n}": 1.0 for n in range(200)})
    with pytest.warns(UserWarning, match="a run holds 2000 names"):
        watch.log({f"more/{n}": 1.0 for n in range(200)})
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan})

    names = {name for update in updates for name in update.readings}
    assert 1_500 < len(names) <= MOST_NAMES


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        (np.array([21.0], np.float32), 21.0),
        (np.array([[21]]), 21.0),
        (np.array(21.0), 21.0),
        (np.bool_(True), 1.0),
        (np.float16(0.5), 0.5),
        (Decimal("0.5"), 0.5),
        (Decimal("1e999"), math.inf),
        (Fraction(1, 2), 0.5),
        (True, 1.0),
        (10**400, math.inf),
    ],
)
def test_one_number_of_any_kind_is_a_reading(value: Any, reading: float, make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)

    watch.log({"x": value})

    assert updates[0].readings == {"x": reading}
    assert watch.losses() == {}


def test_bfloat16_is_a_reading(make: Any) -> None:
    torch = pytest.importorskip("torch")
    watch = make(mode="offline")
    updates = updates_of(watch)

    watch.log({"x": torch.tensor([0.5], dtype=torch.bfloat16)})

    assert updates[0].readings == {"x": 0.5}


class SlowArray:
    """As much of a JAX array as readings use: its number is there when it says so."""

    size = 1

    def __init__(self, number: float) -> None:
        self.number = number
        self.arrived = self.copied = False

    def copy_to_host_async(self) -> None:
        self.copied = True

    def is_ready(self) -> bool:
        return self.arrived

    def item(self) -> float:
        assert self.arrived, "somebody waited for the device"
        return self.number


def test_a_jax_array_is_read_when_it_has_arrived_and_never_waited_for(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)
    array = SlowArray(0.5)

    watch.log({"train/loss": array}, step=1)
    before = list(updates)
    array.arrived = True
    watch.log({"train/loss": 0.25}, step=2)

    assert array.copied
    assert before == []
    assert [update.readings["train/loss"] for update in updates] == [0.5, 0.25]


def test_a_device_that_fails_costs_only_what_is_on_it(make: Any) -> None:
    watch = make(mode="offline", on_critical="halt")
    array = SlowArray(0.5)
    array.is_ready = lambda: 1 / 0  # type: ignore[assignment,return-value]

    with (
        pytest.warns(UserWarning, match="goes on after"),
        pytest.raises(watchstep.TrainingHalted),
    ):
        watch.log({"x": array, "train/loss": math.nan})


def test_secrets_in_what_is_shown_with_a_run_are_masked(make: Any) -> None:
    watch = make(
        mode="offline",
        config={
            "api_key": "abc123",
            "hub": {"hfToken": "xyz789", "num_key_value_heads": 8, "max_tokens": 512},
            "password": 12345,
            "data": "postgresql://me:geheim@host/db",
            "command": "train --wandb-token=zzz111 --rate 1e-3",
        },
        tags={"auth_token": "ttt222"},
    )
    watch.log({"train/loss": 1.0})
    written = b"".join(
        path.read_bytes() for path in Path(watch.options.directory).rglob("*") if path.is_file()
    )

    for secret in (b"abc123", b"xyz789", b"12345", b"geheim", b"zzz111", b"ttt222"):
        assert secret not in written
    assert watch.options.config["hub"]["num_key_value_heads"] == 8
    assert watch.options.config["hub"]["max_tokens"] == 512


def test_a_configuration_that_is_too_large_is_cut_with_a_word(make: Any) -> None:
    with pytest.warns(UserWarning, match="config: is more than is shown with a run"):
        watch = make(mode="offline", config={"rate": 0.1, "text": "x" * 10**6})

    assert watch.options.config["rate"] == 0.1
    assert len(watch.options.config["text"]) < 5_000


def test_an_event_that_is_too_large_is_cut_and_told(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)

    with pytest.warns(UserWarning, match="an event takes 12288 bytes"):
        watch.log(
            {"train/loss": 1.0}, event={"kind": "log", "text": "x" * os.sysconf("SC_PAGE_SIZE") * 9}
        )

    assert updates[0].event["kind"] == "log"
    assert 1_000 < len(updates[0].event["text"]) < 12_288


def test_three_hundred_strange_names_are_two_short_warnings(make: Any) -> None:
    watch = make()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            watch.log({f"läyer {at}": 1.0 for at in range(300)})

    renamed, left_out = (str(warning.message) for warning in caught)
    assert len(renamed) < 1_000
    assert "does so with 295 more (renamed)" in renamed
    assert "an update takes 256 metrics, and this one has 300" in left_out
