"""Standardising advantages by their own statistics, and telling what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup


def standardize_advantages(
    advantages: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = None,
    group: ProcessGroup | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Shift and scale advantages to mean 0 and deviation 1, by the statistics of these values.

    With the mean and deviation of the same N values no result exceeds sqrt(N - 1) in
    magnitude, for any data and any `eps`: the rule `AdvantagesBeyondBound` relies on it.

    Sums run in float64 (float32 where a device has none) and in two passes, so that fp16 and
    bf16 neither overflow nor cancel, and `eps` is not rounded to zero. Nothing waits for the
    device, no graph is recorded, and the argument is left as it is.

    Args:
        advantages: Any shape and floating dtype. A NaN or infinity that is not masked out makes
            every result NaN, which `LossNonFinite` reports; it is not hidden.
        mask: Same shape; true (or non-zero) where a value counts. Values elsewhere may be
            anything and come back as 0.
        eps: Added to the deviation.
        clip: Largest magnitude of a result. Statistics tell what stood there before.
        group: A torch.distributed group whose processes standardise together, by the statistics
            of all their values. Every process of it must call, also one without any values.

    Returns:
        The values, in the shape, dtype and device of `advantages`, detached; and the statistics
        as float64 scalars on that device, named as the rules know them and ready for
        `Watch.log`: `train/advantages_mean_raw`, `_std_raw` (divided by N, not N - 1),
        `_divisor` (deviation plus `eps`), `_epsilon`, `_count` (N), `_norm_max_abs` (before
        clipping), `_norm_mean` (after rounding to the dtype: how well they are centred) and,
        with `clip`, `_clip_share`.

    Raises:
        ValueError: Integers, or a mask of another shape.
    """
    import torch

    if not advantages.is_floating_point():
        raise ValueError(f"advantages must be floating point, not {advantages.dtype}")
    if mask is not None and mask.shape != advantages.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, not {tuple(advantages.shape)}")
    with torch.no_grad():
        # MPS has no float64.
        wide_dtype = torch.float32 if advantages.device.type == "mps" else torch.float64
        wide = advantages.detach().to(wide_dtype)
        counts = torch.ones_like(wide, dtype=torch.bool) if mask is None else mask.bool()
        wide = torch.where(counts, wide, 0.0)
        total, count = _summed([wide.sum(), counts.sum().to(wide_dtype)], group)
        mean = total / count.clamp(min=1.0)
        centred = torch.where(counts, wide - mean, 0.0)
        (squares,) = _summed([centred.square().sum()], group)
        deviation = (squares / count.clamp(min=1.0)).sqrt()
        divisor = deviation + eps
        scaled = centred / divisor
        # A batch of equal values has deviation 0, and eps=0 would make it 0 / 0.
        scaled = torch.where((divisor == 0.0) | ~counts, 0.0, scaled)
        clipped = scaled if clip is None else scaled.clamp(-clip, clip)
        values = clipped.to(advantages.dtype)
        statistics = {
            "mean_raw": mean,
            "std_raw": deviation,
            "divisor": divisor,
            "epsilon": torch.full_like(mean, eps),
            "count": count,
            **_outcome(scaled, values, count, clip, group),
        }
    return values, {f"train/advantages_{name}": value for name, value in statistics.items()}


def _outcome(
    scaled: torch.Tensor,
    values: torch.Tensor,
    count: torch.Tensor,
    clip: float | None,
    group: ProcessGroup | None,
) -> dict[str, torch.Tensor]:
    import torch

    magnitudes = scaled.abs()
    limit = float("inf") if clip is None else clip
    nans, total, at_clip = _summed(
        [
            scaled.isnan().sum().to(scaled.dtype),
            values.to(scaled.dtype).sum(),
            (magnitudes >= limit).sum().to(scaled.dtype),
        ],
        group,
    )
    largest = torch.zeros_like(nans)
    if scaled.numel():
        largest = magnitudes.nan_to_num(nan=0.0, posinf=float("inf")).amax()
    if group is not None:
        # A maximum over processes may lose a NaN, so NaN travels as a count.
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX, group=group)
    valued = count.clamp(min=1.0)
    outcome = {
        "norm_max_abs": torch.where(nans > 0, torch.nan, largest),
        "norm_mean": total / valued,
    }
    return outcome if clip is None else {**outcome, "clip_share": at_clip / valued}


def _summed(parts: list[torch.Tensor], group: ProcessGroup | None) -> list[torch.Tensor]:
    """Scalars, summed over the processes of the group."""
    import torch

    if group is None:
        return parts
    stacked = torch.stack(parts)
    torch.distributed.all_reduce(stacked, group=group)
    return list(stacked.unbind())
