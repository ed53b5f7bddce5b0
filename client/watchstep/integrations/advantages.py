"""Sees which advantages a trainer really multiplies into its loss.

Libraries standardise advantages in the middle of a training method, in a local variable.
`AdvantageTap` follows the tensor from the batch through every torch operation to the first
product with something that needs gradients: what stands there is what trains the policy,
whatever the code in between meant to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_PRODUCTS = {
    torch.mul,
    torch.Tensor.mul,
    torch.Tensor.__mul__,
    torch.Tensor.__rmul__,
    torch.multiply,
}

Note = Callable[[str, float], None]


class AdvantageTap(TorchFunctionMode):
    """Follows advantages from `begin` to their use; off in between.

    Costs one look at the arguments of each torch call while a batch is being followed, which
    ends at the first use.

    Args:
        note: Called with each reading of a batch as soon as it is known, before its backward
            pass: `train/advantages_norm_max_abs` and `train/advantages_count`.
    """

    def __init__(self, note: Note) -> None:
        super().__init__()
        self._note = note
        self._raw: torch.Tensor | None = None
        self._derived: dict[int, torch.Tensor] = {}
        self._batches: list[dict[str, float]] = []

    def begin(self, raw: torch.Tensor) -> None:
        """Follow the advantages of one batch.

        Args:
            raw: As they come out of the rollout, shape (B,), any float dtype. Read only.
        """
        self._raw = raw.detach().clone()
        self._derived = {id(raw): raw}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._raw is not None:
            followed = [arg for arg in args if id(arg) in self._derived]
            if followed:
                self._follow(func, followed[0], args, result)
        return result

    def _follow(
        self, func: Callable[..., Any], followed: torch.Tensor, args: tuple[Any, ...], result: Any
    ) -> None:
        assert self._raw is not None
        others = [arg for arg in args if isinstance(arg, torch.Tensor) and arg is not followed]
        if func in _PRODUCTS and any(other.requires_grad for other in others):
            self._used(followed.detach())
        elif isinstance(result, torch.Tensor) and result.numel() == self._raw.numel():
            # Kept alive here, so that no later tensor can take its id.
            self._derived[id(result)] = result

    def _used(self, used: torch.Tensor) -> None:
        raw, self._raw = self._raw, None
        self._derived.clear()
        assert raw is not None
        batch = batch_readings(raw, used)
        self._batches.append(batch)
        for name in ("train/advantages_norm_max_abs", "train/advantages_count"):
            if name in batch:
                self._note(name, batch[name])

    def readings(self) -> dict[str, float]:
        """The batch nearest to its bound, of those since the last call; begins anew."""
        batches, self._batches = self._batches, []
        standardised = [batch for batch in batches if "train/advantages_norm_max_abs" in batch]
        return max(standardised, key=_nearness) if standardised else {}


def _nearness(batch: Mapping[str, float]) -> float:
    worst = batch["train/advantages_norm_max_abs"]
    if worst != worst:
        return math.inf
    return worst / math.sqrt(max(batch["train/advantages_count"] - 1.0, 1.0))


def batch_readings(raw: torch.Tensor, used: torch.Tensor) -> dict[str, float]:
    """What one batch of advantages became on its way into the loss.

    Args:
        raw: As collected, shape (B,), float.
        used: As multiplied into the loss, B values.

    Returns:
        Empty if they were not standardised, that is, used as they came. Otherwise
        `train/advantages_norm_max_abs` (largest magnitude used), `train/advantages_count` (B),
        `train/advantages_norm_mean` (their mean: 0 up to rounding if they were centred on their
        own mean), `train/advantages_norm_std` (their deviation: 1 if they were divided by
        their own), `train/advantages_batch_std` (the deviation before) and
        `train/advantages_divisor` (what they were divided by, as it follows from both; left
        out where the batch is constant). Deviations are of the population.
    """
    used = used.reshape(-1).to(torch.float64)
    raw = raw.reshape(-1).to(torch.float64)
    if torch.equal(raw, used):
        return {}
    largest, mean, spread = (
        float(value) for value in (used.abs().max(), used.mean(), used.std(correction=0))
    )
    own = float(raw.std(correction=0))
    readings = {
        "train/advantages_norm_max_abs": largest,
        "train/advantages_count": float(used.numel()),
        "train/advantages_norm_mean": mean,
        "train/advantages_norm_std": spread,
        "train/advantages_batch_std": own,
    }
    if spread > 0:
        readings["train/advantages_divisor"] = own / spread
    return readings
