"""False alarms and misses of the two proofs over random batches: `python benchmarks/invariants.py`.

Healthy batches are standardised with their own statistics, as trainers do it; planted ones with
the statistics of other data. Whatever passes the bound must be caught, whatever does not must not.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.updates import Update
from watchstep.rules import load

CLIP_RANGE = 0.2
SIZES = (2, 3, 4, 8, 16, 64, 256, 1000, 2048)
EPSILONS = (0.0, 1e-9, 1e-8, 1e-6, 1e-4)
PROOFS = ("AdvantagesBeyondBound", "PolicyLossBelowClip")


@dataclass(frozen=True, slots=True)
class Batch:
    """One minibatch: what the hook would report of it, and how it was made."""

    kind: str
    count: int
    mean_raw: float
    std_raw: float
    norm_max_abs: float
    policy_loss: float


def raw_advantages(chance: np.random.Generator, size: int) -> NDArray[np.floating]:
    """Values of one of the shapes that advantages have, in float32 or float64."""
    shape = chance.integers(8)
    if shape == 0:
        values = chance.normal(size=size)
    elif shape == 1:
        values = chance.standard_t(1.5, size=size)
    elif shape == 2:
        values = np.zeros(size)
        values[chance.integers(size)] = 1.0
    elif shape == 3:
        values = chance.choice([-1.0, 1.0], size=size)
    elif shape == 4:
        values = chance.pareto(1.1, size=size) * chance.choice([-1.0, 1.0], size=size)
    elif shape == 5:
        values = np.where(chance.random(size) < 0.01, chance.normal(size=size), 0.0)
    elif shape == 6:
        values = chance.normal(size=size) + 1000.0
    else:
        values = np.full(size, chance.normal())
    values = values * 10.0 ** chance.uniform(-9, 6)
    return values.astype(np.float32 if chance.random() < 0.5 else np.float64)


def policy_loss(chance: np.random.Generator, z: NDArray[np.floating]) -> float:
    """PPO's clipped surrogate for a policy that moved a random distance."""
    ratio = np.exp(chance.normal(scale=10.0 ** chance.uniform(-4, 0.5), size=z.size))
    clipped = np.clip(ratio, 1.0 - CLIP_RANGE, 1.0 + CLIP_RANGE)
    return float(-np.minimum(ratio * z, clipped * z).mean())


def reported(
    kind: str, x: NDArray[np.floating], z: NDArray[np.floating], chance: np.random.Generator
) -> Batch:
    """What the hook would say of raw values `x` that became `z`."""
    largest = float(np.abs(z).max())
    return Batch(kind, x.size, float(x.mean()), float(x.std()), largest, policy_loss(chance, z))


def healthy(chance: np.random.Generator, batches: int) -> Iterator[Batch]:
    """Batches standardised with their own mean and deviation, those of deviation 0 left out."""
    while batches:
        x = raw_advantages(chance, int(chance.choice(SIZES)))
        deviation = x.std(ddof=int(chance.integers(2)))
        divisor = deviation + x.dtype.type(chance.choice(EPSILONS))
        if not divisor > 0:
            continue
        z = (x - x.mean()) / divisor
        batches -= 1
        yield reported("healthy", x, z, chance)


def planted(chance: np.random.Generator, batches: int) -> Iterator[Batch]:
    """Batches standardised with the statistics of other data."""
    for number in range(batches):
        size = int(chance.choice(SIZES[3:]))
        x = raw_advantages(chance, size).astype(np.float64)
        kind = ("stale deviation", "masked half", "another worker", "not centred")[number % 4]
        mean, deviation = x.mean(), x.std()
        if kind == "stale deviation":
            deviation *= 10.0 ** -chance.uniform(1, 5)
        elif kind == "masked half":
            quiet = np.sort(np.abs(x))[: max(2, size // 2)]
            mean, deviation = quiet.mean(), quiet.std()
        elif kind == "another worker":
            deviation = chance.normal(size=size).std() * 10.0 ** chance.uniform(-9, 6)
        else:
            mean = 0.0
        z = (x - mean) / (deviation + 1e-8)
        yield reported(kind, x, z, chance)


def proofs() -> RuleSet:
    """The two rules alone, so that a hundred thousand batches take seconds."""
    rules = load(["ppo"])
    return RuleSet([rules.rules[rules.index[name]] for name in PROOFS])


def alarms(rules: RuleSet, batch: Batch) -> tuple[str, ...]:
    """Names of the proofs that hold for a batch."""
    readings = {
        "train/advantages_norm_max_abs": batch.norm_max_abs,
        "train/advantages_count": float(batch.count),
        "train/advantages_mean_raw": batch.mean_raw,
        "train/advantages_std_raw": batch.std_raw,
        "train/policy_loss": batch.policy_loss,
        "train/clip_range": CLIP_RANGE,
    }
    state, _ = step(rules, State(rules), Update(1, 1, 0.0, readings))
    return state.firing()


def beyond(batch: Batch) -> bool:
    """Whether the planted value passes the bound by more than rounding.

    Where the values lie within a spacing or so of float32, rounding is a tenth of a
    deviation; below 1e-18 float32 has no squares to take a deviation from.
    """
    if 0.0 < batch.std_raw < 1e-18:
        return False
    coarse = batch.std_raw < 1.2e-6 * abs(batch.mean_raw)
    return batch.norm_max_abs > 1.01 * np.sqrt(batch.count - 1.0) + 0.1 * coarse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100_000)
    batches = parser.parse_args().batches
    chance, rules = np.random.default_rng(20261123), proofs()

    false: Counter[str] = Counter()
    for batch in healthy(chance, batches):
        false.update(alarms(rules, batch))
    print(f"healthy batches: {batches}")
    for name in PROOFS:
        print(f"  false alarms of {name}: {false[name]}")

    passed: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for batch in planted(chance, batches // 10):
        passed[batch.kind] += beyond(batch)
        caught[batch.kind] += beyond(batch) and PROOFS[0] in alarms(rules, batch)
    print(f"planted batches: {batches // 10}")
    for kind, count in passed.items():
        print(f"  {kind}: {caught[kind]} of {count} beyond the bound caught")


if __name__ == "__main__":
    main()
