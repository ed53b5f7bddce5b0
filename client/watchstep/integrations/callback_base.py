"""What the callbacks of Stable-Baselines3, Lightning and Transformers have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from watchstep.guard import Guard
from watchstep.hook import Watch, init
from watchstep.hook.plain_values import CONFIG_BYTES, plain_mapping


class CallbackBase:
    """A callback's watch: given by the caller, or made for each training and ended with it.

    Comes before the framework's own base. The second training of one callback is the run's
    next attempt.

    Attributes:
        watch: None before the first training, if none was given.
    """

    made_by: ClassVar[str] = ""
    """What trains, with its version."""

    default_rules: ClassVar[str | None] = None
    """A pack that fits the trainer better than the default; None for the default."""

    def __init__(
        self,
        watch: Watch | None = None,
        *,
        guard: bool = True,
        save_every: int | None = 100,
        **options: Any,
    ) -> None:
        super().__init__()
        self.watch = watch
        self._owns_watch = watch is None
        self._options = {"trainer": self.made_by, "rules": self.default_rules, **options}
        self._wants_guard = guard
        self._save_every = save_every
        self._guards: list[Guard] = []

    def _begin(self, optimizers: Mapping[str, Any], *, group: bool, config: Any = None) -> Watch:
        """Begin to watch, and guard the optimizers if that is wanted.

        Args:
            optimizers: Those that will be stepped, by the names that messages call them.
            group: Whether all processes of a distributed training decide together.
            config: The trainer's own hyper-parameters, shown with the run where the user gives
                none.
        """
        if self._owns_watch or self.watch is None:
            self.watch = init(**{"config": recorded(config), **self._options})
        if self._wants_guard:
            guards = [
                self.watch.guard(optimizer, name=name, group=group)
                for name, optimizer in optimizers.items()
            ]
            self._guards = [guard for guard in guards if guard is not None]
        return self.watch

    def _paused(self, reason: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the trainer's whose time is no gap between updates."""

        @functools.wraps(function)
        def paused(*args: Any, **kwargs: Any) -> Any:
            if self.watch is None:
                return function(*args, **kwargs)
            with self.watch.pause(reason):
                return function(*args, **kwargs)

        return paused

    def _is_due(self, updates: int) -> bool:
        """Whether a checkpoint is to be saved after so many updates."""
        return bool(self._save_every) and updates % (self._save_every or 1) == 0

    def _end(self, error: BaseException | None) -> None:
        """End the run if it is ours, and let go of the optimizers in any case."""
        if self.watch is not None and self._owns_watch:
            self.watch.finish(error)
        for guard in self._guards:
            guard.detach()
        self._guards = []


def recorded(config: Any) -> dict[str, Any]:
    """A trainer's own configuration as it is shown with the run, cut without a word."""
    try:
        return plain_mapping(config, most_bytes=CONFIG_BYTES)[0]
    except TypeError:
        return {}
