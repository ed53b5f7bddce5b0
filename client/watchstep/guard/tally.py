"""The readings a guard gathers over the optimizer steps of one update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

NORM = "train/grad_norm"
NORM_MAX = "train/grad_norm_max"
NONFINITE = "guard/nonfinite_gradients"
STEPS = "guard/steps"
SKIPPED = "guard/skipped"
SCALER_SKIPPED = "guard/scaler_skipped"
WITHOUT_GRADIENT = "guard/parameters_without_gradient"
NOT_TRAINED = "guard/parameters_not_trained"
ZERO = "guard/zero_gradients"
LEARNING_RATE = "guard/learning_rate"
FROZEN = "guard/frozen_parameters"
UPDATE_RATIO = "guard/update_ratio"
WEIGHT_NORM = "guard/weight_norm"
LARGEST_WEIGHT = "guard/largest_weight"
KEPT = "guard/gradients_kept"

_SUMMED = (STEPS, SKIPPED, SCALER_SKIPPED, NONFINITE, FROZEN)


class Tally:
    """Sums over steps, taken once per update by `take`.

    Attributes:
        weight_norm: The newest of all updates; None before the first.
    """

    def __init__(self) -> None:
        # What most runs never have is reported from the first time on, until it is over too.
        self._has_scaler = self._has_missed = self._has_frozen = False
        self.weight_norm: float | None = None
        self._begin()

    def count(self, name: str, number: float = 1.0) -> None:
        self._sums[name] += number

    def scaler_skip(self) -> None:
        self._has_scaler = True
        self._sums[SCALER_SKIPPED] = self._sums.get(SCALER_SKIPPED, 0.0) + 1.0

    def optimizer(self, without_gradient: float, rate: float | None) -> None:
        """Add what the optimizer was given for a step.

        Args:
            without_gradient: Share of its trained parameters that have no gradient, 0 to 1.
            rate: The largest learning rate of its groups; None where only its device knows.
        """
        self._has_missed = self._has_missed or without_gradient > 0
        self._missing.append(without_gradient)
        if rate is not None:
            self._latest[LEARNING_RATE] = rate

    def not_trained(self, share: float) -> None:
        """Add the share of the optimizer's parameters that are frozen, 0 to 1."""
        self._has_frozen = self._has_frozen or share > 0
        if self._has_frozen:
            self._latest[NOT_TRAINED] = share

    def norm(self, norm: float, nonfinite: int) -> None:
        """Add one step's pre-clip norm and its number of non-finite gradient tensors."""
        self._norms.append(norm)
        self._sums[NONFINITE] += nonfinite

    def slow(self, name: str, value: float) -> None:
        """Add a reading of the slow cadence; a later one of the same update replaces it."""
        if name == LARGEST_WEIGHT:
            value = max(self._latest.get(name, value), value)
        elif name == WEIGHT_NORM:
            self.weight_norm = value
        self._latest[name] = value

    def take(self) -> dict[str, float]:
        """The readings since the last call, and begin anew."""
        readings = {**self._sums, **self._latest}
        if self._missing and self._has_missed:
            readings[WITHOUT_GRADIENT] = min(self._missing)
        if self._norms:
            readings[NORM] = worst(self._norms, math.fsum(_finite(self._norms)) / len(self._norms))
            readings[NORM_MAX] = worst(self._norms, max(_finite(self._norms), default=0.0))
        self._begin()
        return readings

    def _begin(self) -> None:
        self._sums = dict.fromkeys((STEPS, SKIPPED, NONFINITE), 0.0)
        if self._has_scaler:
            self._sums[SCALER_SKIPPED] = 0.0
        self._latest: dict[str, float] = {}
        self._norms: list[float] = []
        self._missing: list[float] = []


def merged(
    parts: Iterable[Mapping[str, float]], weight_norms: Iterable[float | None]
) -> dict[str, float]:
    """The readings of several guards as one mapping, for a loop with several optimizers.

    Counts are summed, norm and ratio maxima are maxima, and the mean norm is weighted by
    steps. NaN wins over infinity, and infinity over any number. The norm of the weights is that of
    all: each guard measures at steps of its own.

    Args:
        parts: What each guard's `readings` gave.
        weight_norms: The newest of each.
    """
    gathered, norms = [part for part in parts if part], list(weight_norms)
    names = dict.fromkeys(name for part in gathered for name in part)
    readings = {name: _merge(name, [part for part in gathered if name in part]) for name in names}
    if readings.pop(WEIGHT_NORM, None) is not None and None not in norms:
        readings[WEIGHT_NORM] = math.hypot(*(norm for norm in norms if norm is not None))
    return readings


def _merge(name: str, parts: list[Mapping[str, float]]) -> float:
    values = [part[name] for part in parts]
    if name in _SUMMED:
        return sum(values)
    if name != NORM:
        return worst(values, max(_finite(values), default=0.0))
    weights = [part.get(STEPS, 1.0) or 1.0 for part in parts]
    weighted = zip(values, weights, strict=True)
    total = math.fsum(value * weight for value, weight in weighted if math.isfinite(value))
    return worst(values, total / sum(weights))


def worst(values: Iterable[float], otherwise: float) -> float:
    """NaN if one of `values` is NaN, else +Inf if one is infinite, else `otherwise`."""
    bad = [value for value in values if not math.isfinite(value)]
    if not bad:
        return otherwise
    return math.nan if any(math.isnan(value) for value in bad) else math.inf


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
