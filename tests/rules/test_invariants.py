"""The proofs over random batches; benchmarks/invariants.py does the same for 100,000."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

_PATH = Path(__file__).parents[2] / "benchmarks" / "invariants.py"
_SPEC = importlib.util.spec_from_file_location("benchmark_invariants", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
sys.modules["benchmark_invariants"] = bench
_SPEC.loader.exec_module(bench)


def test_no_healthy_batch_of_any_size_type_or_shape_breaks_an_invariant() -> None:
    rules = bench.proofs()

    broken = [
        batch
        for batch in bench.healthy(np.random.default_rng(1), 3000)
        if bench.alarms(rules, batch)
    ]

    assert broken == []


def test_every_wrong_sample_whose_value_passes_the_bound_is_caught() -> None:
    rules = bench.proofs()
    batches = list(bench.planted(np.random.default_rng(2), 1200))
    passed = [batch for batch in batches if bench.beyond(batch)]

    missed = [b for b in passed if "AdvantagesBeyondBound" not in bench.alarms(rules, b)]

    assert missed == []
    assert len(passed) > 200
    assert {batch.kind for batch in passed} >= {"stale deviation", "masked half"}


def test_the_bound_is_reached_by_one_value_among_equals() -> None:
    for count in (2, 64, 2048):
        values = np.zeros(count)
        values[0] = 1.0

        largest = np.abs((values - values.mean()) / values.std()).max()

        assert np.isclose(largest, np.sqrt(count - 1.0), rtol=1e-12)
