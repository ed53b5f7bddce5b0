"""Reading safetensors files, whose library refuses what is torn, overlaps or leaves gaps."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from watchstep.checkpoint.reading import check_finite
from watchstep.errors import CheckpointError


def check_safetensors(path: Path) -> int:
    """The number of tensors in a file, each complete and finite.

    Raises:
        CheckpointError: It is no such file, or one is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path}: no whole safetensors file: {error}") from error
    return check_finite(tensors, str(path))
