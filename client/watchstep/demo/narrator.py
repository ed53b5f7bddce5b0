"""A second callback beside watchstep's, which tells what that one saw."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from watchstep.demo.telling import Teller
from watchstep.guard import bit_hash
from watchstep.integrations.sb3 import WatchstepCallback


class Narrator(BaseCallback):
    """Prints one line an update, and hashes the weights before each.

    Args:
        callback: Watchstep's, which stands before this one in the list.
        teller: Prints.
        hashes: Gets "before": the hash of weights and optimizer before the update under way.
        every: Updates between two that are shown; one at which a rule moves is always shown.
    """

    def __init__(
        self, callback: WatchstepCallback, teller: Teller, hashes: dict[str, str], every: int
    ) -> None:
        super().__init__()
        self._callback = callback
        self._teller = teller
        self._hashes = hashes
        self._every = every
        self._told = 0
        self._transitions = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._tell()

    def _on_rollout_end(self) -> None:
        self._hashes["before"] = bit_hash(self.model.policy, self.model.policy.optimizer)

    def _on_training_end(self) -> None:
        self._tell()

    def _tell(self) -> None:
        if self._callback.updates == self._told:
            return
        self._told = self._callback.updates
        watch = self._callback.watch
        moved = list(watch.transitions)[self._transitions :] if watch is not None else []
        self._transitions += len(moved)
        if moved or self._told % self._every == 0:
            number = self.num_timesteps // self.model.n_steps  # type: ignore[attr-defined]
            self._teller.update(number, self._callback.readings)
        for transition in moved:
            self._teller.transition(transition)
