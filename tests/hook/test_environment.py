"""What is shown with a run of where it came from, in every output without secrets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from watchstep.core.updates import Update
from watchstep.hook.environment import environment
from watchstep.hook.plain_values import plain_mapping
from watchstep.masking import masked, masked_arguments
from watchstep.sender.session import read_header, sessions
from watchstep.wire.packed import Packer
from watchstep.wire.text import encode_update


def test_a_run_s_configuration_says_what_it_was_started_with(make: Any, tmp_path: Path) -> None:
    import torch

    make(config={"rate": 0.1}).log({"train/loss": 1.0})

    (session,) = sessions(tmp_path / "spool")
    header = read_header(session)
    assert header is not None
    assert header.config["rate"] == 0.1
    facts = header.config["environment"]
    assert facts["packages"]["torch"] == str(torch.__version__)
    assert facts["host"]
    assert facts["command"]


def test_the_commit_and_whether_files_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    script = tmp_path / "train.py"
    script.write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(sys, "argv", [str(script)])

    clean = environment()
    script.write_text("2\n")
    changed = environment()

    assert clean["git_commit"] == git("rev-parse", "HEAD")
    assert (clean["git_dirty"], changed["git_dirty"]) == (False, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/x", "https://***@host/x"),
        ("Authorization: Bearer abcdefghijk", "Authorization: *** ***"),
        ("api_key=abcdef", "api_key=***"),
        ('{"password": "hunter22"}', '{"password": ***}'),
        ("export WANDB_API_KEY=0123456789", "export WANDB_API_KEY=***"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("max_tokens=512 tokenizer=gpt2 num_key_value_heads=8", None),
        ("the loss at step 3 is nan", None),
        ("https://ghp_X@host/repo", "https://***@host/repo"),
        ("postgres://me:p@ss@db/x", "postgres://***@db/x"),
        ("serves on http://localhost:8080", None),
        ("cut within postgres://me:hunt", "cut within postgres://***"),
        ("train.py --token hunter2 --lr 3", "train.py --token *** --lr 3"),
        ("x --api-key hunter2", "x --api-key ***"),
        ("--tokenizer gpt2 - token of step 3", None),
        ("['x', '--token', 'hunter2']", "['x', '--token', '***']"),
        ("password hunter2", "password ***"),
        ("PASSWD hunter2", "PASSWD ***"),
        ("FATAL: password authentication failed for user", None),
    ],
)
def test_secrets_in_a_text_are_masked_and_nothing_else(text: str, shown: str | None) -> None:
    assert masked(text) == (text if shown is None else shown)


def test_masking_takes_time_linear_in_the_text() -> None:
    pieces = ("a", "token", "token=", "http://", "a:", "eyJ.", "Bearer ", "api_")
    for piece in (*pieces, "--token ", "-a", "- ", "http://a:b", "password ", "x://1:"):
        masked(piece * 100_000)


def test_masking_twice_changes_nothing_more() -> None:
    text = "--token a1 https://x@h password abc token=abc Authorization: Bearer abcdefghi"

    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "failed", "error": "E: token=hunter2", "traceback": "url https://hunter2@host"},
        {"kind": "log", "text": "PASSWD hunter2"},
        {"kind": "log", "text": "x", "details": [{"password": "hunter2"}, {"a": "--key hunter2"}]},
    ],
)
def test_no_event_reaches_the_wire_or_the_spool_with_a_secret(event: dict[str, Any]) -> None:
    update = Update(1, 1, 1.7e9, {}, event)

    framed, _ = Packer().pack(update)

    assert b"hunter2" not in encode_update(update) + framed


def test_a_secret_in_a_list_of_the_configuration_is_masked() -> None:
    config = {"hosts": [{"pw": "hunter2"}], "argv": ["--token", "hunter2", "--lr", "3"]}

    plain, _ = plain_mapping(config, most_bytes=1_000)

    assert plain == {"hosts": [{"pw": "***"}], "argv": ["--token", "***", "--lr", "3"]}


def test_a_secret_behind_its_option_is_masked() -> None:
    line = ["train.py", "--token", "abc", "--lr", "1", "--hf-token=x", "--key", "--flag"]

    assert masked_arguments(line) == [
        "train.py", "--token", "***", "--lr", "1", "--hf-token=***", "--key", "--flag",
    ]  # fmt: skip
