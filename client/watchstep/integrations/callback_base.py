"""What the callbacks of Stable-Baselines3, Lightning and Transformers have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from watchstep.guard import Guard
from watchstep.hook import Watch, init
from watchstep.hook.plain_values import CONFIG_BYTES, plain_mapping
from watchstep.integrations.replacing import Replaced


class CallbackBase:
    """A callback's watch: given by the caller, or made for each training and ended with it.

    Comes before the framework's own base. The second training of one callback is the run's
    next attempt.

    Args:
        watch: A watch made by `watchstep.init`, which the caller finishes; or None to make one
            from `options`, which ends with the training.
        guard: Whether to judge each optimizer step before it happens.
        save_every: Updates between checkpoints; None for none. Needs `checkpoints=`.
        resume: Whether a training begins with the best checkpoint that is in `checkpoints=`, if
            there is one. Weights and optimizers go on; the framework's own counters begin anew.
        options: Arguments of `watchstep.init`.

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
        resume: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.watch = watch
        self._owns_watch = watch is None
        self._options = {"trainer": self.made_by, "rules": self.default_rules, **options}
        self._wants_guard = guard
        self._save_every = save_every
        self._resumes = resume
        self._guards: list[Guard] = []
        self._replaced = Replaced()

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

    def _go_on(self, state: Mapping[str, Any]) -> None:
        """Restore what an earlier start left, where that is asked for and there is anything."""
        keeper = self.watch.keeper if self.watch is not None and self._resumes else None
        if self.watch is not None and keeper is not None and keeper.list():
            self.watch.restore(state)

    def _paused(self, reason: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the trainer's whose time is no gap between updates."""

        @functools.wraps(function)
        def paused(*args: Any, **kwargs: Any) -> Any:
            if self.watch is None:
                return function(*args, **kwargs)
            with self.watch.pause(reason):
                return function(*args, **kwargs)

        return paused

    def _ending(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the trainer's whose failure ends the run."""

        @functools.wraps(function)
        def told(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                self._end(error)
                raise

        return told

    def _is_due(self, updates: int) -> bool:
        """Whether a checkpoint is to be saved after so many updates."""
        return bool(self._save_every) and updates % (self._save_every or 1) == 0

    def _note(self, name: str, value: float) -> None:
        for guard in self._guards:
            guard.note(name, value)

    def _end(self, error: BaseException | None) -> None:
        """End the run if it is ours, and let go of the trainer in any case."""
        self._replaced.close()
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
