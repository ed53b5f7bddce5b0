"""What the tests of the post-mortem share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from watchstep.postmortem.commands import register
from watchstep.postmortem.examination import Examination, examine
from watchstep.postmortem.readers import Log, open_logs
from watchstep.study import commands as study

LOGS = Path(__file__).parent / "logs"

HEALTHY = {
    "train/policy_gradient_loss": -0.01,
    "train/value_loss": 0.5,
    "train/approx_kl": 0.01,
    "train/clip_fraction": 0.1,
    "train/entropy_loss": -0.6,
    "train/grad_norm": 0.4,
}


def open_log(path: Path) -> Log:
    """The one log in a path."""
    (log,) = open_logs([path])
    return log


def examined(path: Path, **how: Any) -> Examination:
    """The one run in a path."""
    (log,) = open_logs([path])
    return examine(log, **how)


def run_of(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A log of one JSON line an update, numbered from 1; NaN and infinities as strings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        for number, row in enumerate(rows, start=1):
            stream.write(json.dumps({"update": number, **row}) + "\n")
    return path


def died_of(error: str, folder: Path) -> Path:
    """A log of 29 healthy steps that ends in the traceback of an error."""
    lines = [f"step={n} loss=0.5 grad_norm=0.4 policy_loss=0.01" for n in range(1, 30)]
    trace = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>']
    path = folder / "train.log"
    path.write_text("\n".join([*lines, *trace, error]) + "\n")
    return path


def healthy_rows(count: int) -> list[dict[str, Any]]:
    """So many updates with nothing remarkable in them."""
    return [{**HEALTHY, "train/value_loss": 0.5 + 0.001 * (at % 7)} for at in range(count)]


@dataclass(frozen=True)
class Done:
    """What a command left, as `subprocess.CompletedProcess` names it."""

    returncode: int
    stdout: str
    stderr: str


def invoked(*arguments: object) -> Done:
    """The command in this process: start-up costs more than all that it does."""
    app = typer.Typer()
    register(app)
    study.register(app)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def watchstep_command(
    *arguments: object, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """The command as a stranger runs it."""
    return subprocess.run(
        [sys.executable, "-m", "watchstep", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def judged(folder: Path, lines: Iterable[str]) -> Examination:
    path = folder / "train.log"
    path.write_text("\n".join(lines) + "\n")
    return examined(path)


def alerts_of(examination: Examination) -> set[str]:
    return {alert.rule for alert in examination.alerts if alert.severity != "info"}
