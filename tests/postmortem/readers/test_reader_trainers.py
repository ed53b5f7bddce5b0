"""Logs in the native formats of many trainers: found by content, mapped, and judged.

The lines are set as each trainer sets them; `tests/postmortem/logs/SOURCE.md` says where that was
looked up. In all of them something happens in the last quarter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from watchstep.postmortem.examination import examine
from watchstep.postmortem.readers import open_logs

LOGS = Path(__file__).parents[1] / "logs"
FOLDERS = ("printed", "filed")

# File, format, kind, verdict, first bad and last good update in the log's numbers, updates.
LOGGED = (
    ("baselines_log.txt", "sb3_table", "ppo", "diverged", 9, 8, 11),
    ("build_nanogpt_log.txt", "key_value", "pretrain", "diverged", 9, 8, 12),
    ("composer.txt", "block", "", "diverged", 9, 8, 11),
    ("ctrlc_end.txt", "key_value", "pretrain", "healthy", None, 11, 11),
    ("darknet.txt", "key_value", "pretrain", "diverged", 9, 8, 11),
    ("deepspeed_chat.txt", "key_value", "sac", "diverged", 9, 8, 11),
    ("detectron2_console.txt", "key_value", "pretrain", "diverged", 187, 179, 10),
    ("dpo_trl.txt", "hf_print", "dpo", "diverged", 9, 8, 11),
    ("ds_overflow_min.txt", "hf_print", "sft", "diverged", None, 10, 3),
    ("espnet.txt", "key_value", "pretrain", "diverged", 1000, 900, 12),
    ("fairseq_inner.txt", "key_value", "pretrain", "diverged", None, 740, 11),
    ("fairseq_json.txt", "hf_print", "sft", "diverged", 1800, 1600, 11),
    ("fairseq_old.txt", "key_value", "pretrain", "diverged", 2700, 2400, 11),
    ("fastai.txt", "columns", "pretrain", "diverged", 9, 8, 12),
    ("gan.txt", "key_value", "", "diverged", 1150, 1100, 15),
    ("catboost.txt", "key_value", "pretrain", "healthy", None, 11, 12),
    ("gensim.txt", "key_value", "pretrain", "healthy", None, 11, 12),
    ("lightgbm.txt", "key_value", "", "healthy", None, 12, 12),
    ("garage_table.txt", "block", "", "diverged", 9, 8, 12),
    ("github_paste_md.txt", "key_value", "pretrain", "diverged", 100, 80, 6),
    ("github_table_md.txt", "columns", "grpo", "diverged", 9, 8, 11),
    ("grpo_trl.txt", "hf_print", "grpo", "diverged", 9, 8, 11),
    ("hf_tqdm.txt", "hf_print", "sft", "diverged", 90, 80, 11),
    ("jax_logging.txt", "key_value", "pretrain", "diverged", 900, 800, 12),
    ("kaldi_icefall.txt", "key_value", "pretrain", "diverged", 450, 400, 12),
    ("keras2_console.txt", "keras", "pretrain", "diverged", 9, 8, 14),
    ("keras3_console.txt", "keras", "pretrain", "diverged", 9, 8, 14),
    ("kohya_tqdm.txt", "key_value", "", "diverged", 90, 80, 11),
    ("lightning_tqdm.txt", "key_value", "pretrain", "diverged", 23, 22, 12),
    ("llama2c.txt", "key_value", "pretrain", "diverged", 9, 8, 12),
    ("llmc_stdout.txt", "key_value", "pretrain", "diverged", 9, 8, 11),
    ("loguru.txt", "key_value", "pretrain", "diverged", 240, 230, 12),
    ("mlagents.txt", "key_value", "", "healthy", None, 110000, 11),
    ("mmdet_old.txt", "key_value", "pretrain", "diverged", 1200, 1150, 12),
    ("mmengine.txt", "key_value", "pretrain", "diverged", 1200, 1150, 12),
    ("nanogpt.txt", "key_value", "pretrain", "diverged", 90, 80, 12),
    ("nccl_timeout.txt", "key_value", "pretrain", "died", None, 11, 11),
    ("nemo2.txt", "key_value", "pretrain", "diverged", 9, 8, 12),
    ("nemo_tqdm.txt", "key_value", "pretrain", "diverged", 8, 7, 11),
    ("neox.txt", "key_value", "pretrain", "diverged", 90, 80, 11),
    ("nnunet.txt", "block", "pretrain", "diverged", 9, 8, 12),
    ("olmo.txt", "block", "", "diverged", 9, 8, 11),
    ("oom_end.txt", "hf_print", "sft", "died", None, 11, 11),
    ("openrlhf.txt", "hf_print", "ppo", "diverged", 9, 8, 11),
    ("pytorch_imagenet.txt", "key_value", "pretrain", "diverged", 5035, 5025, 12),
    ("pytorch_mnist.txt", "key_value", "pretrain", "diverged", 69000, 66000, 12),
    ("pytorch_tutorial.txt", "key_value", "pretrain", "diverged", 1000, 900, 12),
    ("rlpyt_dump.txt", "block", "", "diverged", 9, 8, 12),
    ("rsl_new.txt", "rsl_rl", "ppo", "diverged", 9, 8, 12),
    ("rsl_old.txt", "rsl_rl", "ppo", "diverged", 9, 8, 12),
    ("sb3_table.txt", "sb3_table", "ppo", "diverged", 10, 9, 11),
    ("slurm_preempt.txt", "key_value", "pretrain", "healthy", None, 11, 11),
    ("spinup_console.txt", "sb3_table", "", "diverged", 9, 8, 12),
    ("swift_console.txt", "hf_print", "sft", "diverged", 45, 40, 11),
    ("text_only_nan.txt", "console", "", "diverged", None, None, 0),
    ("tianshou.txt", "key_value", "", "diverged", 9, 8, 11),
    ("timm.txt", "key_value", "pretrain", "diverged", 1401, 1351, 12),
    ("torchtitan.txt", "key_value", "pretrain", "diverged", 9, 8, 11),
    ("torchtune_file.txt", "key_value", "pretrain", "diverged", 9, 8, 11),
    ("torchtune_tqdm.txt", "key_value", "pretrain", "diverged", 9, 8, 11),
    ("trl_ppo.txt", "hf_print", "ppo", "diverged", 9, 8, 11),
    ("verl.txt", "key_value", "ppo", "diverged", 9, 8, 11),
    ("yolo_console.txt", "columns", "", "diverged", 9, 8, 14),
    ("baselines_csv.csv", "csv", "ppo", "diverged", 9, 8, 11),
    ("csv_comment_header.csv", "csv", "pretrain", "diverged", 9, 8, 12),
    ("detectron2_json.json", "jsonl", "pretrain", "diverged", 199, 179, 12),
    ("hf_notebook_html_text.txt", "csv", "pretrain", "diverged", 90, 80, 11),
    ("keras_csv.log", "csv", "pretrain", "diverged", 9, 8, 12),
    ("keras_history.json", "json_columns", "pretrain", "diverged", 10, 9, 12),
    ("lightning_csv.csv", "csv", "pretrain", "diverged", 499, 449, 12),
    ("llamafactory.jsonl", "jsonl", "pretrain", "diverged", 90, 80, 11),
    ("mmdet_json.json", "jsonl", "pretrain", "diverged", 500, 450, 12),
    ("mmengine_json.json", "jsonl", "pretrain", "diverged", 500, 450, 12),
    ("python_inf_json.jsonl", "jsonl", "pretrain", "diverged", 9, 8, 12),
    ("rllib_csv.csv", "csv", "ppo", "diverged", 9, 8, 11),
    ("rllib_new_json.json", "jsonl", "ppo", "diverged", 9, 8, 11),
    ("rllib_old_json.json", "jsonl", "ppo", "diverged", 9, 8, 11),
    ("skrl_csv.csv", "csv", "", "diverged", 900, 800, 12),
    ("spinup.txt", "csv", "", "diverged", 9, 8, 12),
    ("swift.jsonl", "jsonl", "pretrain", "diverged", 45, 40, 11),
    ("timm_summary.csv", "csv", "pretrain", "diverged", 9, 8, 12),
    ("ultralytics.csv", "csv", "", "diverged", 9, 8, 15),
    ("wandb_csv.csv", "csv", "pretrain", "diverged", 9, 8, 12),
)


def found(name: str) -> Path:
    return next(path for folder in FOLDERS if (path := LOGS / folder / name).exists())


@pytest.mark.parametrize("logged", LOGGED, ids=lambda row: row[0])
def test_a_native_log_is_recognised_and_judged_in_its_own_numbers(
    logged: tuple[str, str, str, str, int | None, int | None, int],
) -> None:
    name, *expected = logged
    (log,) = open_logs([found(name)])

    seen = examine(log)

    numbers = [seen.first_bad_update, seen.last_good_update, seen.updates]
    assert [seen.format, seen.kind, seen.verdict, *numbers] == expected


@pytest.mark.parametrize("name", [row[0] for row in LOGGED if row[3] == "diverged"])
def test_the_same_log_with_numbers_in_place_of_nan_is_not_diverged(
    name: str, tmp_path: Path
) -> None:
    text = found(name).read_text()
    lines = re.split(r"Traceback|\n\S*ERROR ", text)[0].splitlines(keepends=True)
    calm = [re.sub(r"\bnan\b|\bNaN\b|\binf\b|: null", _calm, line) for line in lines]
    if "OVERFLOW" in text or "overflow" in text or "'loss': 0.0" in text or len(lines) < 6:
        pytest.skip("what breaks here is no NaN")
    (tmp_path / name).write_text("".join(calm))

    verdicts = [examine(log).verdict for log in open_logs([tmp_path / name])]

    assert verdicts[0] in ("healthy", "unjudged", "suspicious")


def _calm(broken: re.Match[str]) -> str:
    return ": 0.5" if broken.group() == ": null" else "0.5"


def test_every_log_beside_these_tests_is_judged() -> None:
    there = {path.name for folder in FOLDERS for path in (LOGS / folder).iterdir()}

    assert there == {row[0] for row in LOGGED}
