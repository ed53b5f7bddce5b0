"""The table of what trainers log, and how the words of its names would be read without it."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from importlib import resources
from pathlib import Path

import pytest

from watchstep.core.roles import FAMILIES, ROLES, role_of
from watchstep.rules import load

COLUMNS = ["trainer", "name", "metric", "factor", "role", "file", "commit", "family"]
METRICS = {
    "train/policy_loss",
    "train/value_loss",
    "train/loss",
    "eval/loss",
    "train/entropy_loss",
    "train/approx_kl",
    "train/reference_kl",
    "train/clip_fraction",
    "train/grad_norm",
    "train/explained_variance",
    "train/learning_rate",
    "train/advantages_std_raw",
    "train/advantages_mean_raw",
    "train/advantages_norm_max_abs",
    "train/std",
    "train/loss_scale",
    "train/reward_std",
    "train/zero_std_share",
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "time/fps",
}
# Stable-Baselines3 logs minus the entropy under this name, OpenRLHF the entropy.
OF_TWO_MEANINGS = {"train/entropy_loss"}
# Of the version before roles, when aliases stood in vocabulary.yaml.
MAPPED_BEFORE = Path(__file__).with_name("names_mapped_before.csv")


def _rows() -> list[dict[str, str]]:
    table = resources.files("watchstep.rules") / "packs" / "trainers.csv"
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


ROWS = _rows()
TRAINERS = sorted({row["trainer"] for row in ROWS})


def test_the_table_has_its_columns_and_every_row_all_of_them() -> None:
    assert list(ROWS[0]) == COLUMNS
    assert all(None not in row.values() and None not in row for row in ROWS)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_s_rows_are_well_formed_and_say_where_they_were_read(trainer: str) -> None:
    rows = [row for row in ROWS if row["trainer"] == trainer]

    for row in rows:
        assert re.fullmatch(r"[A-Za-z0-9_./:*-]{1,128}", row["name"]), row
        assert row["role"] in ROLES, row
        assert row["metric"] in METRICS | {""}, row
        assert row["factor"] in {"1", "-1"}, row
        if trainer == "other":
            assert (row["file"], row["commit"], row["family"]) == ("", "", ""), row
        else:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+:[\w./-]+", row["file"]), row
            assert re.fullmatch(r"[0-9a-f]{40}", row["commit"]), row
            assert row["family"] in FAMILIES, row
    assert len({row["family"] for row in rows}) == 1


def test_a_trainer_names_a_metric_once() -> None:
    seen = Counter((row["trainer"], row["name"]) for row in ROWS)

    assert [name for name, times in seen.items() if times > 1] == []


def test_a_name_maps_to_one_metric_whatever_the_trainer_but_for_the_listed() -> None:
    meanings = defaultdict(set)
    for row in ROWS:
        if row["metric"]:
            meanings[row["name"]].add((row["metric"], row["factor"]))

    assert {name for name, given in meanings.items() if len(given) > 1} == OF_TWO_MEANINGS


def test_a_pattern_says_enough_not_to_match_another_trainer_s_names() -> None:
    patterns = {row["name"] for row in ROWS if "*" in row["name"]}

    assert "rewards/*/mean" in patterns
    assert [p for p in patterns if "/" not in p or len(p.replace("*", "")) < 7] == []


def test_every_name_that_was_mapped_before_is_mapped_to_the_same_metric() -> None:
    with MAPPED_BEFORE.open(encoding="utf-8") as file:
        before = {(row["name"], row["metric"], row["factor"]) for row in csv.DictReader(file)}
    now = {(row["name"], row["metric"], row["factor"]) for row in ROWS}

    assert len(before) > 200
    assert before - now == set()


@pytest.mark.parametrize("trainer", TRAINERS)
def test_no_loss_gradient_norm_or_reward_of_a_trainer_is_unknown(trainer: str) -> None:
    unknown = [
        row["name"] for row in ROWS if row["trainer"] == trainer and row["role"] == "unknown"
    ]

    assert [name for name in unknown if re.search("loss|grad|reward|return", name.lower())] == []


def test_a_metric_has_the_role_of_what_maps_to_it() -> None:
    roles = defaultdict(set)
    for row in ROWS:
        if row["metric"]:
            roles[row["metric"]].add(row["role"])

    # A total loss is signed in on-policy and GRPO training and a level elsewhere.
    assert roles.pop("train/loss") == {"loss", "signed_loss"}
    assert roles.pop("eval/loss") == {"eval_loss", "signed_loss"}
    assert {metric: len(given) for metric, given in roles.items()} == dict.fromkeys(roles, 1)


def test_name_and_family_say_the_role() -> None:
    roles = defaultdict(set)
    for row in ROWS:
        roles[row["name"], row["family"]].add(row["role"])

    assert {key: given for key, given in roles.items() if len(given) > 1} == {}


def test_the_words_alone_give_the_roles_of_the_table() -> None:
    rows = Counter(row["trainer"] for row in ROWS)
    right = Counter(
        row["trainer"]
        for row in ROWS
        if role_of(row["name"].replace("*", "part"), row["family"]) == row["role"]
    )

    for trainer in TRAINERS:
        print(f"{trainer}: words give {right[trainer]} of {rows[trainer]} roles")  # noqa: T201
    print(f"all: {right.total()} of {rows.total()}")  # noqa: T201
    assert right.total() >= 0.95 * rows.total()
    # Where a trainer has many names, none of it is a foreign language.
    assert [t for t in TRAINERS if rows[t] >= 10 and right[t] < 0.8 * rows[t]] == []


def test_a_word_of_one_trainer_that_says_nothing_by_itself_has_no_role_elsewhere() -> None:
    """TRL's `eps` is episodes a second; elsewhere it is epsilon, which falls on purpose."""
    vocabulary = load(["generic"]).names.vocabulary

    assert [vocabulary.for_family(family).role("eps") for family in sorted(FAMILIES)] == [
        "unknown"
    ] * len(FAMILIES)
    assert vocabulary.for_family("supervised").role("trl") == "loss"
    assert vocabulary.for_family("off_policy").role("trl") == "unknown"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_words_alone_lose_no_more_than_the_table_was_made_for(trainer: str) -> None:
    watched = {"loss", "signed_loss", "eval_loss", "grad_norm", "reward"}
    lost = {
        row["name"]
        for row in ROWS
        if row["trainer"] == trainer
        and row["role"] in watched
        and role_of(row["name"].replace("*", "part"), row["family"]) == "unknown"
    }

    # Abbreviations: llm.c's losses, TorchRL's and Monitor's rewards, the gains of TRPO.
    assert lost <= {"tel", "trl", "r", "r_training", "r_evaluation", "optimgain", "surrgain"}
