"""`watchstep run` on trainings in the manner of public examples, no line of them changed.

Each really trains, and prints as its library would. Told: the broken ones, by rule or by their
end. Silent: the healthy ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outside.kit_outside import piped, wrapped
from watchstep.postmortem.readers import open_logs

# A line fitted by gradient descent: everything below differs in what it prints of it.
DATA = """
import math, random, sys, time
chance = random.Random(3)
places = [chance.uniform(-1, 1) for _ in range(64)]
rows = [(x, 3.0 * x + 1.0 + chance.gauss(0, 0.1)) for x in places]
weight = bias = 0.0

def epoch(rate):
    global weight, bias
    errors = [(weight * x + bias - y, x) for x, y in rows]
    weight -= rate * 2 * sum(e * x for e, x in errors) / len(rows)
    bias -= rate * 2 * sum(e for e, _ in errors) / len(rows)
    return sum(e * e for e, _ in errors) / len(rows)
"""
KERAS = """
for number in range(1, 31):
    print(f"Epoch {number}/30")
    for batch in range(1, 9):
        loss = epoch(RATE / 8)
        bar = "=" * (3 * batch) + ">" + "." * (24 - 3 * batch)
        print(f"\\r{batch}/8 [{bar}] - ETA: 0s - loss: {loss:.4f}", end="", flush=True)
    print(f"\\r8/8 [{'=' * 25}] - 0s 2ms/step - loss: {loss:.4f} - val_loss: {loss * 1.1:.4f}")
"""
TORCH_EXAMPLE = """
for number in range(1, 4):
    for batch in range(0, 64, 4):
        loss = epoch(RATE)
        print(f"Train Epoch: {number} [{batch}/64 ({100 * batch / 64:.0f}%)]\\tLoss: {loss:.6f}")
    print(f"\\nTest set: Average loss: {loss:.4f}, Accuracy: 61/64 (95%)\\n")
"""
SKLEARN = """
for number in range(1, 61):
    print(f"Iteration {number}, loss = {epoch(RATE):.8f}")
"""
BOOSTING = """
for number in range(1, 61):
    loss = epoch(RATE)
    print(f"[{number - 1}]\\ttrain-rmse:{loss:.5f}\\tvalid-rmse:{loss * 1.05:.5f}")
"""
LOGGED = """
import logging
logging.basicConfig(level=logging.INFO, format="%(asctime)s - %(levelname)s - %(message)s")
for step in range(60):
    loss = epoch(RATE)
    if step % 2 == 0:
        logging.info("step: %d | loss: %.5f | lr: %.1e | tokens/s: %d", step, loss, RATE, 1000)
"""
CRASH = """
for step in range(1, 40):
    print(f"step {step} loss {epoch(0.1):.4f}")
print(rows[64])
"""
BASH = """
set -e
loss=2000
for step in $(seq 1 40); do
  loss=$((loss * 95 / 100))
  echo "iter $step: loss 0.$(printf %04d $loss)"
done
END
"""


def of_python(program: str, rate: float) -> list[str]:
    # Above 1 each step overshoots by more than the last: the loss grows until it is infinite.
    return [sys.executable, "-c", DATA + program.replace("RATE", str(rate))]


PRINTED = {
    "keras": (KERAS, 40.0),
    "torch": (TORCH_EXAMPLE, 1e12),
    "sklearn": (SKLEARN, 1e4),
    "boosting": (BOOSTING, 1e4),
    "logging": (LOGGED, 1e4),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_healthy_training_is_left_alone(name: str, tmp_path: Path) -> None:
    program, _ = PRINTED[name]
    bare = piped(of_python(program, 0.1), tmp_path)

    done = piped(wrapped(of_python(program, 0.1)), tmp_path)

    assert done.returncode == 0
    assert "critical" not in done.stderr.decode()
    if name != "logging":  # Its lines begin with the time.
        assert (done.stdout, done.stderr) == (bare.stdout, bare.stderr)
    assert ends(tmp_path) == ["finished"]


@pytest.mark.parametrize("name", PRINTED)
def test_one_that_diverges_is_told_while_it_runs(name: str, tmp_path: Path) -> None:
    program, rate = PRINTED[name]

    done = piped(wrapped(of_python(program, rate)), tmp_path)

    assert "watchstep: critical at step" in done.stderr.decode(), done.stdout.decode()[-2_000:]


def test_one_that_crashes_is_told_with_the_exception(tmp_path: Path) -> None:
    done = piped(wrapped([sys.executable, "-c", DATA + CRASH]), tmp_path)

    assert done.returncode == 1
    assert ends(tmp_path) == ["failed"]


@pytest.mark.parametrize(
    ("last", "code", "end"), [("true", 0, "finished"), ("exit 7", 7, "failed")]
)
def test_a_shell_script_is_watched_to_its_end(
    last: str, code: int, end: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/bash\n" + BASH.replace("END", last))
    script.chmod(0o755)

    done = piped(wrapped([str(script)]), tmp_path)

    assert done.returncode == code
    assert done.stdout.count(b"\n") == 40
    assert ends(tmp_path) == [end]


def ends(folder: Path) -> list[str]:
    return [
        next(str(update.event["kind"]) for update in list(log.updates)[::-1] if update.event)
        for log in open_logs([folder / ".watchstep"])
    ]
