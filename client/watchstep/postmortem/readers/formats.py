"""Recognising a log by its content, and guessing the trainer by its metric names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from watchstep.core.roles import role_of
from watchstep.postmortem.readers import (
    jsonlogs,
    mlflow_files,
    parquet,
    spool,
    stream,
    tables,
    tensorboard,
    wandb_offline,
)
from watchstep.postmortem.readers.counters import is_numbered
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import flat_readings, number
from watchstep.postmortem.readers.opening import HEAD_BYTES, encoding_of
from watchstep.postmortem.readers.plans import measured
from watchstep.postmortem.readers.tfrecord import HEADER_BYTES, record_length

Read = Callable[[Log], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Format:
    """A shape that logs come in.

    Attributes:
        name: As it appears in `Log.format`.
        rank: Which format of one run is read, lowest first; see `RANKS`.
        read: Turns the files of a log into rows.
        certain: False when the content could also be something else (any CSV, any prose):
            in a folder such a file counts only if it names something that training logs.
    """

    name: str
    rank: int
    read: Read
    certain: bool = True


RANKS = (
    *("watchstep_spool", "watchstep", "jsonl", "tensorboard", "wandb", "mlflow", "sb3_csv"),
    *("sb3_json", "trainer_state", "csv", "parquet", "json_rows", "json_columns", "console"),
    *("sb3_monitor",),
)
"""Formats by how much each tells of an update, richest first.

When a folder holds one run in several formats, the first of these that is there is read: what
our own hook wrote, then what was written for machines at full precision, then what was printed
for people at three digits; a monitor file tells of episodes, not of updates.
"""

_ALSO_TRAINED = re.compile(
    r"loss|grad|learning_rate|(?:^|[/_])lr$|kl(?:$|[/_])|advantage|clip_?frac|n_updates|td_error|"
    r"nll|^train$|^kimg$|(?:^|[/_])[fk]id\d{0,3}k?(?:$|[/_])|(?:^|[/_])(?:b?ce|mse|mae|huber|xent|elbo|bp[bcd]|l[12]|rms|[bw]?[cw]er|auc)(?:$|[/_])|(?:^ep|episode|average)\w*len",
    re.IGNORECASE,
)
"""What a training logs beside what is measured."""

_KINDS = (
    ("grpo", re.compile(r"frac_reward_zero_std|^reward_std$|completions?[/_]|clip_ratio/|grpo")),
    ("dpo", re.compile(r"rewards/(?:chosen|rejected|margins)")),
    (
        "ppo",
        re.compile(
            r"approx_?kl|clip_?frac|policy_gradient_loss|policy_loss|surrogate|"
            r"explained_variance|advantages|pg_loss|discriminator|losses/[ac]_loss",
        ),
    ),
    ("dqn", re.compile(r"exploration_rate|td_(?:loss|error)|mean_q|q_values|epsilon$")),
    ("sac", re.compile(r"actor_loss|critic_loss|train/ent_coef|qf\d?_loss|alpha_loss")),
    ("pretrain", re.compile(r"^lm_loss|consumed_(?:samples|tokens)|^val_loss$|^tokens")),
)
_REINFORCED = re.compile(
    r"reward|return|episode|(?:^|[/_])ep_|epret|policy|actor|critic|advantage|value|entropy|"
    r"(?:^|[/_])kl|q_?loss|rollout|env_",
    re.IGNORECASE,
)
"""Names that supervised training has no use for."""

_SUPERVISED = re.compile(
    r"^(?:train(?:ing)?[ /_-])?(?:total_)?loss(?:[_/](?:step|epoch|train|avg))?$|"
    r"reduced_train_loss|cross-?entropy",
    re.IGNORECASE,
)
_WRAPPED_LINES = 400
_SFT_FORMATS = ("trainer_state", "hf_print")


def recognise(head: bytes) -> Format | None:
    """The format of a file from its first bytes, None when it is no training log."""
    if head.startswith(wandb_offline.MAGIC):
        return _format("wandb", wandb_offline.rows)
    if head.startswith(spool.MAGIC):
        return _format("watchstep_spool", spool.rows)
    if head.startswith(parquet.MAGIC):
        return _format("parquet", parquet.rows, certain=False)
    length = record_length(head[:HEADER_BYTES])
    if length is not None and (len(head) == HEADER_BYTES or head[HEADER_BYTES] == 0x09):
        return _format("tensorboard", tensorboard.rows)
    encoding = encoding_of(head)
    return _text(head.decode(encoding, "replace")) if encoding else None


def _text(text: str) -> Format | None:
    text = text.lstrip("\ufeff \t\r\n")
    recognised = _json(text) if text[:1] in ("{", "[") else None
    first = text.partition("\n")[0]
    if recognised is None and first.startswith("#") and '"t_start"' in first:
        recognised = _format("sb3_monitor", tables.monitor_rows)
    if recognised is None and mlflow_files.FIRST_LINE.match(text):
        recognised = _format("mlflow", mlflow_files.rows)
    return recognised or _table(text) or _console(text)


def late_console(head: bytes) -> Format | None:
    """A text whose beginning holds no row yet: settings and downloads can fill pages."""
    long = len(head) >= HEAD_BYTES
    return (
        _format("console", stream.console_rows, certain=False)
        if long and encoding_of(head)
        else None
    )


def names_training(names: set[str]) -> bool:
    """Whether any of the names is one that training logs."""
    if any(measured(name) or _ALSO_TRAINED.search(name) for name in names):
        return True
    return is_numbered(names) and any(role_of(name).startswith("eval_") for name in names)


def kind_of(names: set[str], format_name: str, steady: set[str]) -> str:
    """A guess at what was trained, from metric names; "" when they do not tell.

    Args:
        names: All that are known.
        format_name: As in `Log.format`.
        steady: Those that every update has: a loss that only some have is judged by no rule
            that would miss it.
    """
    for kind, pattern in _KINDS:
        if any(pattern.search(name) for name in names):
            return kind
    if format_name in _SFT_FORMATS and "loss" in names and "reward" not in names:
        return "sft"
    if {"frame", "value", "episode_reward"} & names == {"value", "episode_reward"}:
        return "dqn"
    supervised = any(_SUPERVISED.search(name) for name in steady)
    if supervised and not any(_REINFORCED.search(name) for name in names):
        return "pretrain"
    return ""


def lag_of(names: set[str], format_name: str) -> int:
    """1 for the log of an SB3 on-policy run: it is written before the update it is named after.

    `learn` collects a rollout, writes the log, and then trains (stable-baselines3 2.9.2), so
    that the `train/*` values of a row are the previous update's. A hook's own stream is not
    late, though it uses the same names.
    """
    if format_name == "jsonl" or format_name.startswith("watchstep") or "time/fps" not in names:
        return 0
    return int(bool({"train/policy_gradient_loss", "train/policy_loss"} & names))


def _json(text: str) -> Format | None:
    if text.startswith("["):
        if re.match(r"\[\s*\{", text):
            return _format("json_rows", jsonlogs.array_rows, certain=False)
        return None
    first, newline, rest = text.partition("\n")
    row = jsonlogs.parsed(first)
    if isinstance(row, Mapping) and (newline or not rest):
        return _wrapped(text) or _json_lines(row)
    if '"log_history"' in text:
        return _format("trainer_state", jsonlogs.trainer_state_rows)
    if re.match(r'\{\s*"[^"]+"\s*:\s*\[\s*[-\d.nNiI]', text):
        return _format("json_columns", jsonlogs.column_rows, certain=False)
    return None


def _wrapped(text: str) -> Format | None:
    """Console output of which each line is wrapped in JSON, as Docker and loggers do."""
    rows = [jsonlogs.parsed(line) for line in text.splitlines()[:_WRAPPED_LINES]]
    printed = [line for line in map(jsonlogs.printed_in, rows) if line is not None]
    measures = any(names_training(set(flat_readings(row))) for row in rows if isinstance(row, dict))
    if not printed or measures or _console("\n".join(printed)) is None:
        return None
    return _format("console", stream.wrapped_rows, certain=False)


def _json_lines(row: Mapping[str, Any]) -> Format | None:
    if isinstance(row.get("log_history"), list):
        return _format("trainer_state", jsonlogs.trainer_state_rows)
    if row and all(isinstance(value, list) for value in row.values()):
        return _format("json_columns", jsonlogs.column_rows, certain=False)
    if "seq" in row and isinstance(row.get("metrics"), Mapping):
        return _format("watchstep", jsonlogs.jsonl_rows)
    if "time/iterations" in row or "time/total_timesteps" in row:
        return _format("sb3_json", jsonlogs.jsonl_rows)
    return _format("jsonl", jsonlogs.jsonl_rows, certain="update" in row)


def _table(text: str) -> Format | None:
    """CSV: a line of names over a line with as many cells, all of them numbers or few words."""
    records = tables.records(text.splitlines(keepends=True)[:400])
    lines = list(tables.headed(line for line in records if line.strip()))
    complete = len(lines) > 2 or (len(lines) > 1 and lines[1].endswith("\n"))
    header_line, row_line = (*lines, "", "")[:2]
    delimiter = tables.delimiter_of(header_line)
    header = tables.cells(header_line, delimiter)
    if not header or len(header) < 2 or not _is_header(header):
        return None
    if row_line:
        row = tables.cells(row_line, delimiter) or []
        filled = [cell for cell in row if cell.strip()]
        numbers = sum(number(cell) is not None for cell in filled)
        if not numbers or (complete and len(row) != len(header)):
            return None
        # What else looks so is a sentence: `step=1, loss=2`, `| loss | 2, 3`.
        if not _is_plain(header) and 2 * numbers < len(filled):
            return None
    elif not _is_plain(header):
        return None
    if "time/iterations" in header or "time/total_timesteps" in header:
        return _format("sb3_csv", tables.csv_rows)
    exported = [cell.lower() for cell in header] == ["wall time", "step", "value"]
    return _format("csv", tables.csv_rows, certain=exported)


def _is_header(header: list[str]) -> bool:
    return all(len(cell) < 200 and number(cell) is None for cell in header)


def _is_plain(header: list[str]) -> bool:
    return not any(character in cell for cell in header for character in "{}|=<>")


def _console(text: str) -> Format | None:
    """Console output, if any line of the beginning is a row or an error."""
    reader = stream.ConsoleReader()
    if reader.feed(text.encode()) or reader.close():
        return _format("console", stream.console_rows, certain=False)
    return None


def _format(name: str, read: Read, *, certain: bool = True) -> Format:
    return Format(name, RANKS.index(name), read, certain)
