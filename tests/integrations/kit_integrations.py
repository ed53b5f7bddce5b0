"""What the tests of several integrations share."""

from __future__ import annotations

from typing import Any

import watchstep


def recorded(watch: watchstep.Watch) -> list[tuple[int, dict[str, Any]]]:
    """Step and metrics of all that a watch is given from now on."""
    updates: list[tuple[int, dict[str, Any]]] = []
    original = watch.log

    def log(metrics: Any = None, step: Any = None, **more: Any) -> Any:
        updates.append((step, dict(metrics)))
        return original(metrics, step, **more)

    watch.log = log  # type: ignore[method-assign]
    return updates


QUIET: dict[str, Any] = {
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
}
"""Arguments of a Transformers training on a CPU that leaves nothing behind."""
