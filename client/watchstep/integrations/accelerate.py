"""Accelerate's trackers: `import watchstep.integrations.accelerate`, then by name.

accelerator = Accelerator(log_with="watchstep")
accelerator.init_trackers("my-project", init_kwargs={"watchstep": {"on_critical": "halt"}})
accelerator.log({"train_loss": loss}, step=step)
accelerator.end_training()
"""

from __future__ import annotations

import sys
from typing import Any

from accelerate import __version__ as accelerate_version
from accelerate import tracking

from watchstep.hook import Watch, init
from watchstep.integrations.callback_base import recorded


class WatchstepTracker(tracking.GeneralTracker):
    """One run of an `Accelerator`; on its main process alone, as its other trackers.

    Args:
        run_name: What `init_trackers` calls the project.
        options: Arguments of `watchstep.init`.
    """

    name = "watchstep"
    requires_logging_directory = False

    def __init__(self, run_name: str, **options: Any) -> None:
        super().__init__()
        self._options = {
            "project": run_name,
            "trainer": f"accelerate {accelerate_version}",
            **options,
        }
        self._watch: Watch | None = None

    @property
    def tracker(self) -> Watch:
        return self._begin()

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Show the hyper-parameters with the run, if it has not begun without them."""
        if self._watch is None:
            self._options.setdefault("config", recorded(values))

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """Judge one update; texts among the values are for other trackers."""
        readings = {key: value for key, value in values.items() if not isinstance(value, str)}
        self._begin().log(readings, step=step)

    def finish(self) -> None:
        """End the run, as failed where an error is on its way."""
        if self._watch is not None:
            self._watch.finish(sys.exc_info()[1])

    def _begin(self) -> Watch:
        if self._watch is None:
            self._watch = init(**self._options)
        return self._watch


# Versions before have no names for others' trackers: log_with=WatchstepTracker("my-project").
if hasattr(tracking, "register_tracker_class"):
    tracking.register_tracker_class(WatchstepTracker)
