"""What each format's log is read as, on logs that real trainers wrote."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.core.updates import Update
from watchstep.postmortem.readers import Log, open_logs

LOGS = Path(__file__).parents[1] / "logs"


def read(path: Path) -> tuple[Log, list[Update]]:
    log = open_log(path)
    return log, list(log.updates)


def only(folder: str) -> tuple[Log, list[Update]]:
    (log,) = open_logs([LOGS / folder])
    return log, list(log.updates)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("folder", "format_name", "unit", "kind", "steps"),
    [
        ("bloom176b_spike", "key_value", "iteration", "pretrain", (31214, 31251, 11)),
        ("bloom104b_exp12", "key_value", "iteration", "pretrain", (8738, 9027, 8)),
        ("iss_openr1_239", "jsonl", "row", "grpo", (1, 2, 2)),
        ("iss_rslrl96", "rsl_rl", "iteration", "ppo", (17, 17, 1)),
        ("iss_sb3_1593", "sb3_table", "iteration", "ppo", (200, 200, 1)),
        ("iss_timemoe31", "hf_print", "row", "sft", (1, 10, 10)),
        ("hf_short", "trainer_state", "step", "sft", (10, 45, 5)),
        ("gail_ppo", "csv", "row", "ppo", (1, 5, 5)),
        ("zoo_monitor", "sb3_monitor", "row", "", (1, 10, 10)),
        ("nanogpt", "key_value", "step", "pretrain", (0, 296, 297)),
        ("trading_table", "sb3_table", "iteration", "ppo", (23, 25, 3)),
        ("sb3_carla_4", "tensorboard", "step", "ppo", (1024, 49152, 48)),
        ("wandb_offline", "wandb", "step", "pretrain", (0, 1190, 120)),
        ("noeps_constreward", "jsonl", "iteration", "ppo", (1, 28, 28)),
    ],
)
def test_a_real_log_is_recognised_and_keeps_its_printed_numbers(
    folder: str, format_name: str, unit: str, kind: str, steps: tuple[int, int, int]
) -> None:
    log, updates = only(folder)

    assert (log.format, log.unit, log.kind) == (format_name, unit, kind)
    assert (updates[0].step, updates[-1].step, len(updates)) == steps
    assert [update.seq for update in updates] == list(range(1, len(updates) + 1))


def test_the_loss_that_megatron_leaves_out_is_absent_and_the_cut_line_is_partial() -> None:
    log, updates = only("iss_megatron_missing_loss")

    assert ["lm_loss" in update.readings for update in updates] == [True, True, False]
    assert updates[-1].readings["loss_scale"] == 1.0
    assert log.partial


def test_a_nan_in_printed_text_is_a_reading() -> None:
    _, hugging_face = only("iss_timemoe31")
    _, rsl_rl = only("iss_rslrl96")

    assert math.isnan(hugging_face[0].readings["grad_norm"])
    assert hugging_face[0].readings["loss"] == 0.0
    assert math.isnan(rsl_rl[0].readings["Loss/value_function"])
    assert rsl_rl[0].readings["Loss/entropy"] == 17.0273


def test_a_table_joins_section_and_key_however_long() -> None:
    log, updates = only("trading_table")

    readings = updates[0].readings
    assert readings["train/approx_kl"] == 0.000333
    assert math.isnan(readings["train/vf_clip_threshold_ev"])
    following = updates[1].readings
    assert following["debug/value_path/ev_pred_mean_norm_post_final_clip_mean"] == -0.00224
    assert readings["diag/kl_raw_exceed_frac_0.1"] == 0.0
    assert log.lag_updates == 1


def test_three_logs_of_one_run_agree_and_the_hooks_own_stream_is_chosen() -> None:
    folder = LOGS / "noeps_constreward"
    (chosen,) = open_logs([folder])
    _, hook = read(folder / "updates.jsonl")
    table_log, table = read(folder / "progress.csv")
    events_log, events = read(next(folder.glob("events*")))

    assert chosen.path.name == "updates.jsonl"
    assert any("progress.csv" in note for note in chosen.notes)
    assert table_log.lag_updates == events_log.lag_updates == 1
    for row, burst in zip(table, events, strict=False):
        for name, value in burst.readings.items():
            assert row.readings[name] == pytest.approx(value, rel=1e-6, nan_ok=True)
    late = [row.readings.get("train/loss") for row in table[1:]]
    assert late[:20] == pytest.approx([update.readings["train/loss"] for update in hook[:20]])


def test_a_monitor_file_gives_episodes_with_a_clock_and_its_environment() -> None:
    log, updates = only("zoo_monitor")

    assert log.tags == {"env": "Walker2DBulletEnv-v0"}
    assert updates[0].readings == {"rollout/ep_rew": 13.986275, "rollout/ep_len": 9.0}
    assert updates[0].time == pytest.approx(1614621250.0072339 + 1.201783)


def test_training_and_evaluation_at_one_step_are_one_update(tmp_path: Path) -> None:
    state = written(
        tmp_path,
        "trainer_state.json",
        json.dumps(
            {
                "log_history": [
                    {"loss": 2.0, "step": 10, "epoch": 1.0},
                    {"eval_loss": math.nan, "step": 10, "epoch": 1.0},
                    {"loss": 1.0, "step": 20, "epoch": 2.0},
                ]
            },
            indent=2,
        ),
    )
    lightning = written(
        tmp_path, "metrics.csv", "epoch,step,train_loss,val_loss\n0,9,0.5,\n0,9,,0.6\n1,19,0.4,\n"
    )

    _, hugging_face = read(state)
    _, csv_updates = read(lightning)

    assert [update.step for update in hugging_face] == [10, 20]
    assert math.isnan(hugging_face[0].readings["eval_loss"])
    assert [update.step for update in csv_updates] == [9, 19]
    assert csv_updates[0].readings == {"epoch": 0.0, "train_loss": 0.5, "val_loss": 0.6}


def test_a_printed_evaluation_without_a_step_joins_the_row_of_its_epoch(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "out.txt",
        "{'loss': 0.5, 'grad_norm': 1.0, 'epoch': 1.0}\n"
        "{'eval_loss': 0.6, 'eval_runtime': 3.0, 'epoch': 1.0}\n"
        "{'loss': '0.4', 'grad_norm': 'nan', 'epoch': '2.0'}\n",
    )

    _, updates = read(path)

    assert [update.step for update in updates] == [1, 2]
    assert updates[0].readings["eval_loss"] == 0.6
    assert math.isnan(updates[1].readings["grad_norm"])


def test_sb3s_json_has_bare_nan_and_its_own_iteration(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "progress.json",
        '{"time/iterations": 1, "time/fps": 9, "train/policy_gradient_loss": NaN}\n'
        '{"time/iterations": 2, "time/fps": 9, "train/policy_gradient_loss": -Infinity}\n',
    )

    log, updates = read(path)

    assert (log.format, log.unit, log.lag_updates) == ("sb3_json", "iteration", 1)
    assert math.isnan(updates[0].readings["train/policy_gradient_loss"])
    assert updates[1].readings["train/policy_gradient_loss"] == -math.inf


def test_exported_history_is_read_as_lines_as_array_and_as_columns(tmp_path: Path) -> None:
    rows = [{"_step": 5, "loss": 1.0}, {"_step": 6, "loss": math.inf}]
    shapes = {
        "lines.jsonl": "\n".join(json.dumps(row) for row in rows) + "\n",
        "array.json": json.dumps(rows),
        "indented.json": json.dumps(rows, indent=1),
        "columns.json": json.dumps({"_step": [5, 6], "loss": [1.0, math.inf]}),
        "table.csv": "_step,loss\n5,1.0\n6,inf\n",
        "table.tsv": "_step\tloss\n5\t1.0\n6\tInfinity\n",
    }

    histories = [read(written(tmp_path, name, text))[1] for name, text in shapes.items()]

    for updates in histories:
        assert [(update.step, update.readings) for update in updates] == [
            (5, {"loss": 1.0}),
            (6, {"loss": math.inf}),
        ]


def test_a_web_export_is_read_under_the_metrics_own_names(tmp_path: Path) -> None:
    wandb = written(
        tmp_path,
        "wandb_export.csv",
        '"Step","run-1 - train/loss","run-1 - train/loss__MIN","run-1 - train/loss__MAX"\n'
        '"100","0.5","0.5","0.5"\n"200","NaN","0","1"\n',
    )
    tensorboard = written(
        tmp_path, "run-tag.csv", "Wall time,Step,Value\n1700000000.5,7,0.25\n8,9,1\n"
    )

    log, updates = read(wandb)
    _, points = read(tensorboard)

    assert [update.step for update in updates] == [100, 200]
    assert log.names == {"train/loss"}
    assert math.isnan(updates[1].readings["train/loss"])
    assert (points[0].step, points[0].time) == (7, 1700000000.5)


def test_nested_results_are_flattened_and_settings_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "result.json",
        '{"training_iteration": 3, "config": {"lr": 0.1}, "timestamp": 1700000000,'
        ' "learners": {"default_policy": {"policy_loss": "NaN", "vf_loss": 2}}}\n',
    )

    log, updates = read(path)

    assert (log.unit, updates[0].step, updates[0].time) == ("iteration", 3, 1.7e9)
    assert set(updates[0].readings) == {
        "learners/default_policy/policy_loss",
        "learners/default_policy/vf_loss",
    }


@pytest.mark.parametrize("folder", ["bloom176b_spike", "iss_openr1_239", "hf_short", "gail_ppo"])
def test_a_packed_log_reads_as_the_plain_one(folder: str, tmp_path: Path) -> None:
    plain = next(path for path in (LOGS / folder).iterdir() if path.name != "SOURCE.md")
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert repr(read(packed)[1]) == repr(read(plain)[1])


def test_watchsteps_own_updates_keep_their_numbers_and_events(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "export.jsonl",
        '{"attempt": 1, "seq": 7, "step": 700, "time": 1e9, "metrics": {"loss": "NaN"}}\n'
        '{"attempt": 2, "seq": 1, "step": 650, "time": 2e9, "metrics": {"loss": 1},'
        ' "event": {"kind": "failed", "error": "x"}}\n',
    )

    log, updates = read(path)

    assert log.format == "watchstep"
    assert [(u.attempt, u.seq, u.step) for u in updates] == [(1, 7, 700), (2, 1, 650)]
    assert updates[1].event == {"kind": "failed", "error": "x"}


def test_numbers_that_go_back_begin_the_next_attempt(tmp_path: Path) -> None:
    resumed = written(tmp_path, "a.csv", "step,loss\n100,1\n200,2\n150,3\n")
    epochs = written(tmp_path, "b.csv", "epoch,step,loss\n0,0,1\n0,1,2\n1,0,3\n")

    assert [update.attempt for update in read(resumed)[1]] == [1, 1, 2]
    assert [update.attempt for update in read(epochs)[1]] == [1, 1, 1]


def test_rows_nested_in_json_lines_are_numbered_and_their_nulls_are_nan(tmp_path: Path) -> None:
    rows = [{"event": "step", "data": {"step": 5 * at, "loss": 2.0 - at / 9}} for at in range(6)]
    rows[5]["data"] = {"step": 25, "loss": None}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    updates = list(open_log(path).updates)

    assert [update.step for update in updates] == [0, 5, 10, 15, 20, 25]
    assert math.isnan(updates[5].readings["data/loss"])
