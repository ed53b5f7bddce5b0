"""The examples and the code on the documentation pages, run as a reader would run them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
NEEDS = {
    "pytorch": ["torch"],
    "cleanrl": ["torch", "gymnasium"],
    "ddp": ["torch"],
    "distributed": ["torch"],
    "sb3": ["stable_baselines3"],
    "lightning": ["lightning"],
    "transformers": ["transformers", "accelerate"],
    "trl": ["trl"],
    "rllib": ["ray"],
    "tensorboard": ["tensorboard", "torch"],
    "jax": ["jax", "optax"],
    "index": [],
    "mirrors": ["wandb"],
}
# What each example catches: the failure must be seen, not only survived.
EXAMPLES = {
    "pytorch": "caught: LossNonFinite\nweights finite: True, good checkpoint: update 35\n",
    "sb3": "caught: AdvantagesBeyondBound after 16 healthy updates\n",
    "lightning": "caught: GradientNonFinite",
    "transformers": "caught: LossNonFinite at step 13\nthe Trainer's own log says: loss 0.0\n",
    "trl": "caught: AdvantagesBeyondGroupBound before step ",
    "tensorboard": "caught: LossNonFinite at update 10",
    "rllib": "caught: GradientStaysNonFinite after ",
    "ddp": "AdvantagesBeyondBound: rank 1: ",
    "jax": "caught: LossNonFinite\nweights finite: True, skipped steps: ",
}


# What the code on a page prints, where it shows a failure.
PRINTED = {"cleanrl": "LossNonFinite: train/advantages_mean_raw = inf"}


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WATCHSTEP_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**clean, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def _skip_without(name: str) -> None:
    for package in NEEDS[name]:
        if importlib.util.find_spec(package) is None:
            found_by = "make test-rllib" if name == "rllib" else f"the extra for {name}"
            pytest.skip(f"needs {package}: {found_by}")


def test_every_example_is_tried_and_short() -> None:
    examples = {path.stem.removeprefix("with_"): path for path in ROOT.glob("examples/*.py")}

    assert set(EXAMPLES) == set(examples)
    assert all(len(path.read_text().splitlines()) < 80 for path in examples.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_shows_a_real_failure_caught(name: str, tmp_path: Path) -> None:
    _skip_without(name)
    script = str(ROOT / "examples" / f"with_{name}.py")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if name == "ddp" else []

    done = _run([*launcher, script], tmp_path)

    assert done.returncode == 0, done.stderr[-2_000:]
    assert EXAMPLES[name] in done.stdout, done.stdout[-2_000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_on_the_page_runs(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    if not blocks:
        pytest.skip("no code on this page")
    _skip_without(page.stem)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))

    done = _run([str(script)], tmp_path)

    assert done.returncode == 0, done.stderr[-2_000:]
    assert PRINTED.get(page.stem, "") in done.stdout
