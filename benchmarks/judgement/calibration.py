"""How far confidences can be trusted on faults and trainers that they were not fitted to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.judgement.runs import Run
from benchmarks.judgement.scoring import Score, right_causes
from watchstep.core.diagnosis import scores, signs
from watchstep.core.updates import Update
from watchstep.rules import AUTO, load

Pairs = list[tuple[float, bool]]
HISTORY = 300
"""Updates that a diagnosis looks at."""


def table_numbers(runs: Iterable[Run]) -> tuple[float, float]:
    """`SLOPE` and `NOTHING` of the table of causes that make the truth of these runs likeliest.

    Of each harmful fault with a cause that a log can tell, as a diagnosis at the end sees it.
    """
    rules = load([AUTO])
    cases = [
        (right_causes(run), scores(signs(rules, list(_updates(run))[-HISTORY:], ())))
        for run in runs
        if run.truth.harm and run.truth.cause
    ]

    def likelihood(slope: float, nothing: float) -> float:
        return sum(_said_of(causes, weighed, slope, nothing) for causes, weighed in cases)

    slopes, nothings = [each / 10 for each in range(4, 21)], [each / 2 for each in range(-3, 4)]
    return max(itertools.product(slopes, nothings), key=lambda numbers: likelihood(*numbers))


def _said_of(
    causes: frozenset[str], weighed: dict[str, float], slope: float, nothing: float
) -> float:
    """Logarithm of the confidence in what is right; in nothing, where that was no candidate."""
    logits = {"": nothing} | {name: slope * score for name, score in weighed.items()}
    highest = max(logits.values())
    whole = sum(math.exp(logit - highest) for logit in logits.values())
    right = max((logits[cause] for cause in causes if cause in logits), default=nothing)
    return right - highest - math.log(whole)


def _updates(run: Run) -> Iterator[Update]:
    seqs = {1: 0, 2: 0}
    for number, row in enumerate(run.updates, start=1):
        attempt = row["attempt"]
        seqs[attempt] += 1
        yield Update(seqs[attempt], number, float(number), row["metrics"], None, attempt)
    if run.failure:
        last, event = len(run.updates) + 1, {"kind": "failed", "error": run.failure}
        attempt = run.updates[-1]["attempt"]
        yield Update(seqs[attempt] + 1, last, float(last), {}, event, attempt)


def fitted(pairs: Pairs) -> tuple[float, float]:
    """Slope and offset that make the logits most likely (Platt), by Newton's method.

    A slope near 1 and an offset near 0 say that the confidences are right as they are.
    """
    # From (0, 0) on, where every weight is largest: further out a step can overshoot.
    slope, offset = 0.0, 0.0
    for _ in range(50):
        # A little pull towards 1 and 0 keeps the fit finite where the pairs can be told apart.
        gradient = [0.01 * (slope - 1.0), 0.01 * offset]
        hessian = [0.01, 0.0, 0.01]
        for logit, right in pairs:
            p = _logistic(slope * logit + offset)
            miss, weight = p - right, p * (1.0 - p)
            gradient = [gradient[0] + miss * logit, gradient[1] + miss]
            hessian[0] += weight * logit * logit
            hessian[1] += weight * logit
            hessian[2] += weight
        determinant = hessian[0] * hessian[2] - hessian[1] ** 2
        slope -= (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant
        offset -= (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant
    return slope, offset


def pairs_of(scores: Sequence[Score]) -> Pairs:
    """Logit of the first cause's confidence, and whether it was right."""
    return [
        (_logit(score.confidence), score.cause_right)
        for score in scores
        if score.cause and score.truth.harm
    ]


def left_out(
    scores: Sequence[Score], group: Callable[[Score], str]
) -> tuple[float | None, dict[str, float]]:
    """Brier score where each group is calibrated on all the others alone.

    Args:
        group: The fault, or the trainer.

    Returns:
        The score over all, and by group.
    """
    squares: dict[str, list[float]] = {}
    names = sorted({group(score) for score in scores})
    for name in names:
        slope, offset = fitted(pairs_of([score for score in scores if group(score) != name]))
        for logit, right in pairs_of([score for score in scores if group(score) == name]):
            miss = _logistic(slope * logit + offset) - right
            squares.setdefault(name, []).append(miss * miss)
    every = [square for row in squares.values() for square in row]
    means = {name: sum(row) / len(row) for name, row in squares.items()}
    return (sum(every) / len(every) if every else None), means


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(min(value, 30.0), -30.0)))


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1.0 - 1e-4)
    return math.log(p / (1.0 - p))
