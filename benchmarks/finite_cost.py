"""The finite check of a 100M-parameter state, against the memory's bandwidth.

    python benchmarks/finite_cost.py [--parameters 100000000]

Prints one JSON object. `of_bandwidth` is the time of a plain read of the same bytes divided by
that of the check; `over_isfinite` is how many times faster it is than `isfinite().all()`.
All are medians over interleaved rounds of one process, so the ratios hold on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Callable

import torch

from watchstep.checkpoint import all_finite, first_nonfinite


def parameters_of(count: int) -> dict[str, torch.Tensor]:
    """A state of layers of one million and a remainder of small tensors."""
    layers = {f"layer.{i}": torch.randn(1_000_000) for i in range(count // 1_000_000 - 1)}
    return layers | {f"bias.{i}": torch.randn(1_000) for i in range(1_000)}


def read_bandwidth(state: dict[str, torch.Tensor]) -> None:
    """Reads every byte and does next to nothing: the smallest of 64-bit words."""
    for tensor in state.values():
        tensor.view(torch.int64).max()


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    state = parameters_of(options.parameters)
    contenders: dict[str, Callable[[], object]] = {
        "read": lambda: read_bandwidth(state),
        "sum": lambda: [tensor.sum() for tensor in state.values()],
        "check": lambda: all_finite(state),
    }
    for work in contenders.values():
        work()
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounds = [{n: seconds(w) for n, w in contenders.items()} for _ in range(options.rounds)]
    extra_memory_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) / 1024
    median = {name: statistics.median(r[name] for r in rounds) for name in contenders}
    slow = seconds(lambda: all(bool(t.isfinite().all()) for t in state.values()))

    state["bias.999"][7] = -math.inf
    names = first_nonfinite(state)
    state["bias.999"][7] = 1e30
    print(
        json.dumps(
            {
                "parameters": options.parameters,
                "of_bandwidth": round(min(median["read"], median["sum"]) / median["check"], 3),
                "over_isfinite": round(slow / median["check"], 1),
                "check_ms": round(median["check"] * 1e3, 1),
                "read_ms": round(median["read"] * 1e3, 1),
                "sum_ms": round(median["sum"] * 1e3, 1),
                "extra_memory_mib": round(extra_memory_mib, 1),
                "names_minus_infinity": names,
                "calls_1e30_finite": all_finite(state),
            }
        )
    )


if __name__ == "__main__":
    main()
