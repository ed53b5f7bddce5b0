"""The hook in a real notebook: a halt ends a cell, not the kernel, and cells are run again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

SET_UP = """
import torch, watchstep
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters())
"""
BEGIN = """
watch = watchstep.init(run="notebook", on_critical="halt")
guard = watch.guard(optimizer)
"""
TRAIN = """
for step in range(20):
    loss = model(torch.randn(8, 2)).square().mean() * (float("nan") if step == POISONED else 1.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    watch.log({"train/loss": loss}, step=step)
print("attempt done", all(weight.isfinite().all() for weight in model.parameters()))
"""


def test_a_halt_ends_the_cell_and_the_kernel_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHSTEP_MODE", "offline")
    monkeypatch.setenv("WATCHSTEP_DIR", str(tmp_path / "spool"))
    poisoned, healthy = TRAIN.replace("POISONED", "6"), TRAIN.replace("POISONED", "-1")

    outputs = run_cells(SET_UP, BEGIN, poisoned, BEGIN, healthy, "watch.finish()")

    halted = [output for output in outputs[2] if output["output_type"] == "error"]
    assert [output["ename"] for output in halted] == ["TrainingHalted"]
    assert halted[0]["evalue"].startswith("watchstep halted training at step 6: LossNonFinite")
    assert [output["text"] for output in outputs[4]] == ["attempt done True\n"]
    assert outputs[1] == outputs[3] == outputs[5] == []
    assert len(list((tmp_path / "spool").iterdir())) == 2


def run_cells(*cells: str) -> list[list[Any]]:
    """The outputs of each cell, run in a kernel of its own."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Theirs, about event loops and unencrypted sockets.
        nbclient.NotebookClient(
            book, timeout=120, kernel_name="python3", allow_errors=True
        ).execute()
    return [cell.outputs for cell in book.cells]
