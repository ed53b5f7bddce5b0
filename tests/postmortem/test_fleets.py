"""Numbers over many runs: intervals, before against after, frequencies, cost."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from postmortem.kit_postmortem import HEALTHY, healthy_rows, invoked, run_of
from watchstep.core.updates import Update
from watchstep.errors import RuleError
from watchstep.postmortem.checklist import checklist
from watchstep.postmortem.downsampled_series import DownsampledSeries
from watchstep.postmortem.examination import Examination
from watchstep.postmortem.fleet import MOST_LINES, Fleet
from watchstep.postmortem.verdict import VerdictWord
from watchstep.rules import load
from watchstep.study.cost import Assumptions, Measured, bill, read_assumptions
from watchstep.study.frequency import Rate, Risk
from watchstep.study.statistics import (
    Interval,
    median_difference,
    share_difference,
    wilson,
)

ROOT = Path(__file__).parents[2]
_HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAVED = struct.pack("<Q", len(_HEADER)) + _HEADER + struct.pack("<f", 1.0)
"""An intact safetensors file."""


def fleet(folder: Path, runs: int, scale: float, lost: int = 0) -> Path:
    for number in range(runs):
        noise = random.Random(number)
        rows: list[dict[str, Any]] = [
            {**row, "train/grad_norm": scale * noise.uniform(0.8, 1.2)} for row in healthy_rows(20)
        ]
        if number < lost:
            rows[15:] = [{**HEALTHY, "train/value_loss": "NaN"}] * 5
        run_of(folder / f"run-{number}" / "updates.jsonl", rows)
    return folder


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    hits: int, trials: int, low: float, high: float
) -> None:
    interval = wilson(hits, trials)

    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_nothing_tried_is_nothing_known() -> None:
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert share_difference((0, 1), (0, 5)) == Interval(-1.0, 1.0)


def test_newcombe_gives_the_published_difference() -> None:
    # Newcombe 1998, table II, example (a), method 10: 56/70 against 48/80.
    interval = share_difference((48, 56), (80, 70))

    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0524, 0.3339)


def test_four_runs_a_side_are_too_few_for_an_interval() -> None:
    assert median_difference([1.0] * 4, [2.0] * 40) is None


def test_the_same_runs_always_give_the_same_interval() -> None:
    old, new = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 5.0, 9.0]

    assert median_difference(old, new) == median_difference(old, new)


def test_the_bootstrap_covers_the_true_difference_about_as_often_as_it_says() -> None:
    draw = random.Random(7)
    hits = 0
    for _ in range(60):
        old = [draw.gauss(0.0, 1.0) for _ in range(12)]
        new = [draw.gauss(1.0, 1.0) for _ in range(12)]
        interval = median_difference(old, new)
        assert interval is not None
        hits += interval.holds(1.0)

    assert hits >= 51


def test_a_clear_improvement_over_a_fleet_is_told(tmp_path: Path) -> None:
    old, new = fleet(tmp_path / "old", 8, 50.0), fleet(tmp_path / "new", 8, 0.5)

    done = invoked("compare", old, new, "--json")

    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    grad = rows["largest train/grad_norm"]
    assert done.returncode == 0
    assert grad["judgement"] == "better"
    assert grad["interval"][1] < 0
    assert grad["runs"] == [8, 8]


def test_fleets_are_compared_by_when_they_fail_and_by_lost_checkpoints(tmp_path: Path) -> None:
    old, new = fleet(tmp_path / "old", 5, 1.0, lost=5), fleet(tmp_path / "new", 5, 1.0, lost=5)
    for number in range(5):
        (old / f"run-{number}" / "model_20.pt").write_bytes(b"cut off")
        (new / f"run-{number}" / "model_10.safetensors").write_bytes(SAVED)

    done = invoked("compare", old, new, "--json")

    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    lived = rows["updates to the failure, of failed runs"]
    lost = rows["failed runs whose newest checkpoint is of no use"]
    assert (lived["old"], lived["judgement"]) == (15, "no difference")
    assert (lost["old"], lost["new"], lost["judgement"]) == (1, 0, "better")


def test_the_risks_of_a_failure_are_priced() -> None:
    given = dataclasses.replace(Assumptions(), bad_model_cost=Interval(1000, 2000))

    figures = {figure.name: figure.value for figure in bill(given)}

    assert figures["failures without a way back a year"] == figures["failures a year"]
    assert figures["largest single loss"] == Interval(480, 1680)
    assert figures["cost of bad models in use a year"].high == pytest.approx(26 * 0.05 * 2000)


def test_two_single_runs_cannot_tell_whether_the_fix_holds(tmp_path: Path) -> None:
    old, new = fleet(tmp_path / "old", 1, 50.0, lost=1), fleet(tmp_path / "new", 1, 0.5)

    done = invoked("compare", old, new, "--json")

    document = json.loads(done.stdout)
    assert {row["judgement"] for row in document["rows"]} == {"cannot tell"}
    assert document["runs"] == {"old": 1, "new": 1}


def test_the_same_fleet_twice_shows_no_difference(tmp_path: Path) -> None:
    folder = fleet(tmp_path / "runs", 6, 1.0)

    done = invoked("compare", folder, folder, "--json")

    assert {row["judgement"] for row in json.loads(done.stdout)["rows"]} == {"no difference"}


def test_comparing_with_nothing_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = invoked("compare", fleet(tmp_path / "old", 1, 1.0), tmp_path / "empty")

    assert done.returncode == 3


def test_frequencies_are_counted_by_phase_with_intervals(tmp_path: Path) -> None:
    for number in range(4):
        rows = healthy_rows(100)
        rows[80] = {**HEALTHY, "train/approx_kl": 0.4}
        run_of(tmp_path / f"run-{number}" / "updates.jsonl", rows)

    done = invoked("frequency", tmp_path, "--json")

    rates = {
        rate["phase"]: rate
        for rate in json.loads(done.stdout)["rates"]
        if rate["name"] == "KLHigh" and rate["group"] == "all"
    }
    assert (rates["early"]["updates"], rates["mid"]["updates"]) == (0, 0)
    assert (rates["late"]["updates"], rates["late"]["of_updates"]) == (4, 120)
    assert rates["near-optimal"]["updates"] == 0
    low, high = rates["late"]["share_of_updates_interval"]
    assert low < 4 / 120 < high
    assert (rates["all"]["runs"], rates["all"]["of_runs"]) == (4, 4)


def test_frequencies_are_counted_by_tag(tmp_path: Path) -> None:
    fleet(tmp_path, 3, 1.0, lost=1)

    done = invoked("frequency", tmp_path, "--json", "--by", "kind")

    risks = json.loads(done.stdout)["risk"]
    assert (risks["kind=ppo"]["failures"], risks["kind=ppo"]["runs"]) == (1, 3)


def test_logs_are_tagged_by_a_glob_and_by_a_table(tmp_path: Path) -> None:
    fleet(tmp_path / "calm", 2, 1.0)
    fleet(tmp_path / "wild", 2, 1.0, lost=2)
    table = tmp_path / "tags.csv"
    table.write_text(f"path,host\n{tmp_path}/calm,a\n{tmp_path}/wild/run-1,b\n")

    done = invoked(
        *("frequency", tmp_path, "--json", "--by", "env", "--by", "host"),
        *("--tag", f"{tmp_path}/wild* env=wild", "--tag", table),
    )

    document = json.loads(done.stdout)
    runs = {group: (risk["failures"], risk["runs"]) for group, risk in document["risk"].items()}
    assert runs == {"all": (2, 4), "env=wild": (2, 2), "host=a": (0, 2), "host=b": (1, 1)}
    late = [
        rate["updates"]
        for rate in document["rates"]
        if (rate["name"], rate["phase"], rate["group"]) == ("LossNonFinite", "late", "env=wild")
    ]
    assert late == [2]


@pytest.mark.parametrize(
    "options",
    [("--by", "environment"), ("--tag", "runs"), ("--tag", "no-such-file.csv")],
)
def test_a_tag_that_is_not_there_is_an_error(options: tuple[str, str], tmp_path: Path) -> None:
    done = invoked("frequency", fleet(tmp_path, 1, 1.0), *options)

    assert done.returncode == 2
    assert options[1] in done.stderr


@pytest.mark.parametrize(
    ("updates", "of_updates", "word"),
    [
        (0, 100_000, "very low"),
        (0, 1_000, "very low to moderate"),
        (50, 100_000, "low"),
        (3_000, 100_000, "high"),
        (10_000, 100_000, "critical"),
    ],
)
def test_a_risk_has_the_reports_word_for_the_whole_interval(
    updates: int, of_updates: int, word: str
) -> None:
    rate = Rate("rule", "KLHigh", "all", "all", updates, of_updates, 1, 1)

    assert rate.risk == word


def test_the_risk_of_a_year_follows_from_that_of_a_run() -> None:
    risk = Risk(failures=5, runs=100, runs_per_year=10.0)

    assert risk.per_year.low == pytest.approx(10 * risk.per_run.low)
    assert risk.at_least_one.high == pytest.approx(1 - (1 - risk.per_run.high) ** 10)


def test_the_default_cost_is_the_seed_documents_arithmetic() -> None:
    figures = {figure.name: figure.value for figure in bill(Assumptions())}

    failures = figures["failures a year"]
    assert (failures.low, failures.high) == pytest.approx((10.4, 26.0))
    money = figures["compute lost a year"]
    assert (money.low, money.high) == pytest.approx((520.0, 5200.0))
    hours = figures["time lost a year, machines and people"]
    assert (hours.low, hours.high) == pytest.approx((72.8, 780.0))


def test_the_example_file_says_what_the_defaults_say() -> None:
    assert read_assumptions(ROOT / "examples" / "cost.yaml") == Assumptions()


def test_what_a_halt_and_the_pin_would_have_saved_is_measured() -> None:
    measured = Measured(
        runs=100,
        failures=4,
        failed_updates=400,
        wasted_updates=100,
        saved_updates=80,
        good_updates=300,
    )

    figures = {figure.name: figure for figure in bill(Assumptions(), measured)}

    lost = figures["compute lost a year"].value
    halted = figures["saved a year by halting"].value
    assert halted.high == pytest.approx(lost.high * 80 / 400)
    assert figures["saved a year by the pin"].value.high == pytest.approx(lost.high * 100 / 400)
    assert "measured" in figures["failures a year"].because


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("run_costs: 5\n", "run_cost"),
        ("run_cost: [5]\n", "two as"),
        ("run_cost: -1\n", "from 0"),
        ("run_cost: .nan\n", "number"),
        ("failure_rate: 2\n", "share"),
        ("failure_rate: [0.5, 0.1]\n", "lower one first"),
        ("run_cost: 1\nrun_cost: 2\n", "run_cost"),
    ],
)
def test_a_wrong_cost_file_is_refused_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "cost.yaml"
    file.write_text(text)

    with pytest.raises(RuleError, match=reason) as caught:
        read_assumptions(file)

    assert str(caught.value).startswith(f"{file}:")


def test_the_command_prints_every_assumption(tmp_path: Path) -> None:
    done = invoked("cost", fleet(tmp_path, 5, 1.0, lost=1), "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["assumptions"]["debugging_hours"] == [2, 10]
    assert all(figure["because"] for figure in document["figures"])


def window(values: dict[str, list[float]]) -> list[tuple[int, Update]]:
    rows = zip(*values.values(), strict=True)
    return [
        (at, Update(at, at, 0.0, dict(zip(values, row, strict=True))))
        for at, row in enumerate(rows, start=1)
    ]


def test_the_seed_documents_own_example_answers_its_checklist_with_yes() -> None:
    history = window(
        {
            "train/advantages_std_raw": [0.05, 0.02, 0.005, 0.001, 5e-5, 1.8e-5],
            "train/advantages_norm_max_abs": [3.0, 3.1, 3.2, 3.2, 8.5, 385.2],
            "train/grad_norm": [0.5, 0.5, 0.5, 0.5, 0.6, 2847.3],
            "train/policy_loss": [0.003, 0.003, 0.003, 0.003, 0.02, -47.3],
            "train/value_loss": [0.12, 0.12, 0.12, 0.12, 0.35, 156.8],
            "train/clip_fraction": [0.2, 0.2, 0.2, 0.2, 0.2, 0.98],
            "train/explained_variance": [0.75, 0.75, 0.75, 0.75, 0.68, -3.2],
        }
    )

    items = checklist(load(["ppo"]), history, crash_row=6)

    assert [item.answer for item in items] == ["yes"] * 6
    assert items[1].found == 385.2
    assert items[1].update == 6


def test_what_was_not_logged_is_no_answer_and_nan_is_no_yes() -> None:
    history = window({"train/clip_fraction": [0.1, math.nan, math.nan]})

    items = {item.question.split(" ")[0]: item for item in checklist(load(["ppo"]), history, 3)}

    assert items["raw"].answer == "not logged"
    assert items["clip"].answer == "no"


def test_a_fleet_of_any_size_keeps_only_the_worst_runs_in_memory() -> None:
    rules = load(["ppo"])
    kept = Fleet(drawn=2)
    for number in range(2_000):
        word: VerdictWord = "diverged" if number % 100 == 7 else "healthy"
        examination = Examination(path="p", format="f", run=f"r{number}", unit="row", verdict=word)
        examination.downsampled = DownsampledSeries(rules)
        kept.add(examination)

    assert len(kept.lines) <= 2 * MOST_LINES
    assert [examination.verdict for examination in kept.worst()].count("diverged") == 20
    assert sum(examination.downsampled is not None for examination in kept.worst()) == 2
    assert kept.runs == 2_000


@pytest.mark.parametrize("command", ["compare", "frequency", "cost"])
def test_every_command_prints_a_table_for_people(tmp_path: Path, command: str) -> None:
    folder = fleet(tmp_path / "runs", 5, 1.0, lost=2)
    words = {
        "compare": ["old (5)", "no difference", "bootstrap"],
        "frequency": ["LossNonFinite", "2 of 5", "Wilson"],
        "cost": ["2 of 5 runs in the logs failed", "(assumed)", "saved a year by halting"],
    }

    done = invoked(command, *([folder, folder] if command == "compare" else [folder]))

    assert done.returncode == 0
    assert done.stderr == ""
    assert all(word in done.stdout for word in words[command])
