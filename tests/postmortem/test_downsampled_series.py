"""What the charts of a log show."""

from __future__ import annotations

from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined


@pytest.mark.parametrize("other", ["nll_loss", "train_loss", "reduced_train_loss"])
def test_two_readings_of_one_row_are_two_series(other: str, tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text("".join(f"step {n} | loss 6.5 | {other} 4.5\n" for n in range(1, 9)))
    downsampled = examined(path, draw=True).downsampled

    assert downsampled is not None
    assert {bucket.low for bucket in downsampled.series["train/loss"].buckets} == {6.5}
    assert {bucket.low for bucket in downsampled.series[other].buckets} == {4.5}
