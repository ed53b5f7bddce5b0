"""What kind of training a run is, told by its metrics, and which rules judge it for that."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest

import watchstep.rules
from watchstep.core.engine import State, step
from watchstep.core.updates import Update
from watchstep.rules import AUTO, judging, load, packs_for

TABLE = Path(watchstep.rules.__file__).with_name("packs") / "trainers.csv"
AUTO_SET = load([AUTO])


def updates(*rows: dict[str, float], attempt: int = 1) -> list[Update]:
    return [Update(at, at, float(at), row, attempt=attempt) for at, row in enumerate(rows, start=1)]


def judged(*rows: dict[str, float]) -> State:
    state = State(AUTO_SET)
    for update in updates(*rows):
        state, _ = step(AUTO_SET, state, update)
    return state


@pytest.mark.parametrize(
    ("names", "family"),
    [
        ("loss lr", "supervised"),
        ("train_loss val_loss val_acc epoch", "supervised"),
        ("my/objective_loss throughput", "supervised"),
        ("policy_loss entropy avg_reward", "on_policy"),
        ("loss/surrogate loss/value kl mean_return explained_variance", "on_policy"),
        ("train/advantages_norm_max_abs train/grad_norm", "on_policy"),
        ("actor_loss critic_loss alpha alpha_loss episode_return", "off_policy"),
        ("td_loss q_mean epsilon episode_reward", "off_policy"),
        ("loss reward kl completions/mean_length grad_norm", "grpo"),
        ("actor/pg_loss actor/ppo_kl critic/score/mean response_length/mean", "grpo"),
        ("policy_loss critic_loss kl reward return response_length", "on_policy"),
        ("loss rewards/chosen rewards/rejected rewards/margins", "preference"),
        ("something else entirely", ""),
    ],
)
def test_the_names_of_metrics_tell_the_kind_of_training(names: str, family: str) -> None:
    assert AUTO_SET.family_for(set(names.split())) == family


def test_of_the_trainers_in_the_table_nineteen_in_twenty_are_told() -> None:
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["trainer"] != "other":
                names[row["trainer"], row["family"]].add(row["name"].replace("*", "x"))
    whole = {trainer: metrics for trainer, metrics in names.items() if len(metrics) >= 5}

    wrong = {
        trainer: AUTO_SET.family_for(metrics)
        for (trainer, family), metrics in whole.items()
        if AUTO_SET.family_for(metrics) != family
    }

    assert len(whole) > 50
    assert len(wrong) <= len(whole) / 20, wrong


def test_a_run_is_judged_by_the_rules_for_its_kind_from_its_first_update_on() -> None:
    state = judged(*({"loss": 2.0} for _ in range(40)), *({"loss": 8.0} for _ in range(10)))

    assert state.rules.family == "supervised"
    assert "LossDoubling" in state.firing()


def test_a_loss_of_reinforcement_learning_has_no_level() -> None:
    rows = [{"loss": 2.0, "policy_loss": 0.1, "episode_reward": 5.0}] * 40
    rows += [{"loss": 8.0, "policy_loss": 0.1, "episode_reward": 5.0}] * 5

    state = judged(*rows)

    assert state.rules.family == "on_policy"
    assert "LossDoubling" not in state.firing()


def test_names_that_come_later_may_change_the_kind_and_keep_what_was_seen() -> None:
    state = judged({"episode_reward": 1.0}, {"episode_reward": 1.0, "td_loss": 0.5, "q_mean": 1.0})

    assert state.rules.family == "off_policy"
    assert state.age == 2


def test_after_twenty_updates_the_kind_stays() -> None:
    rows = [{"loss": 2.0}] * 25 + [{"policy_loss": 0.1, "episode_reward": 1.0, "entropy": 1.0}] * 3

    assert judged(*rows).rules.family == "supervised"


def test_a_kind_that_nothing_has_told_is_told_by_names_that_come_later() -> None:
    printed = [{"episodic_return": 9.0}] * 200
    # `losses/approx_kl` alone is a distance from a reference.
    written = [{"losses/approx_kl": 76.0}] * 5 + [{"losses/value_loss": 1.0, "losses/entropy": 0.0}]

    assert judged(*printed).rules.family == ""
    assert judged(*printed, *written[:1]).rules.family == "grpo"
    assert judged(*printed, *written).rules.family == "on_policy"


def test_the_kind_is_in_a_snapshot() -> None:
    state = judged(*({"loss": 2.0} for _ in range(30)))
    written = json.loads(json.dumps(state.snapshot(), allow_nan=False))

    restored = State.restore(AUTO_SET, written)

    assert restored.rules is state.rules
    assert restored.snapshot() == state.snapshot()


def test_a_pack_that_is_named_judges_whatever_the_names_say() -> None:
    rules = load(["ppo", "generic"])
    state, _ = step(rules, State(rules), Update(1, 1, 1.0, {"loss": 2.0}))

    assert state.rules.family == "on_policy"


def test_files_are_added_to_what_judges_and_never_take_it_away(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("groups: [{name: mine, rules: [{alert: Mine, expr: loss > 1}]}]\n")

    both = load(judging([mine]))

    assert {"Mine", "LossNonFinite", "LossDoubling"} <= both.index.keys()
    assert judging(["ppo"]) == ["generic", "ppo"]
    assert judging([]) == []


def test_packs_are_named_by_the_kind_of_training() -> None:
    assert packs_for("supervised") == ("generic", "machine", "pretrain")
    assert packs_for("preference") == ("generic", "machine", "pretrain")
    assert packs_for("grpo") == ("generic", "grpo", "machine")
    assert packs_for("") == ("generic", "machine")
