"""Code that nobody wants to touch, if it writes to TensorBoard.

    writer = SummaryWriter(folder)
    mirror(writer, watchstep.init(run="ppo-7", on_critical="halt"))

Every scalar that is written from then on is a reading. Works with torch's `SummaryWriter`,
tensorboardX's, and anything else with `add_scalar(tag, value, step)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from watchstep.hook import Watch
from watchstep.integrations.replacing import Replaced
from watchstep.wire.names import legal_metric_name


class Mirror:
    """Passes a writer's scalars on to a watch, as one update per training update.

    An update is judged when its end is seen: without `beat` when the step changes or the writer
    is flushed or closed, with it when that tag is written.

    Attributes:
        updates: Updates that were judged.
    """

    def __init__(self, writer: Any, watch: Watch, *, beat: str | None = None) -> None:
        self.updates = 0
        self._watch = watch
        self._beat = beat
        self._readings: dict[str, Any] = {}
        self._step: int | None = None
        self._replaced = Replaced()
        self._replaced.replace(writer, "add_scalar", self._add_scalar(writer.add_scalar))
        for name in ("flush", "close"):
            if hasattr(writer, name):
                self._replaced.replace(writer, name, self._then_judge(getattr(writer, name)))

    def stop(self) -> None:
        """Judge what is left, and leave the writer as it was. Twice is harmless."""
        self._replaced.close()
        self._judge()

    def _add_scalar(self, add_scalar: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(add_scalar)
        def mirrored(
            tag: str, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            # Written first: what halted the training is to be seen in TensorBoard too.
            result = add_scalar(tag, scalar_value, global_step, *args, **kwargs)
            self._see(tag, scalar_value, global_step)
            return result

        return mirrored

    def _see(self, tag: str, value: Any, step: Any) -> None:
        number = None if step is None else int(step)
        if self._beat is None and number != self._step:
            self._judge()
        self._step = number
        self._readings[legal_metric_name(tag)] = value
        if tag == self._beat:
            self._judge()

    def _then_judge(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def judged(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self._judge()
            return result

        return judged

    def _judge(self) -> None:
        readings, self._readings = self._readings, {}
        if readings:
            self.updates += 1
            self._watch.log(readings, step=self._step)


def mirror(writer: Any, watch: Watch, *, beat: str | None = None) -> Mirror:
    """Have every scalar of a TensorBoard writer judged, and sent, by a watch.

    Args:
        writer: A `SummaryWriter`; it writes what it always wrote.
        watch: Made by `watchstep.init`; the caller finishes it.
        beat: The tag that is written last in each training update, for loops that write other
            scalars in between at steps of their own (CleanRL: "charts/SPS"). Default: one
            update for each step that scalars are written at.

    Returns:
        What undoes it by `stop()`.

    Raises:
        TrainingHalted: Later, out of `add_scalar`, `flush` or `close`, when a halt was asked for.
    """
    return Mirror(writer, watch, beat=beat)
