"""Small games, many copies side by side in numpy, and what can be wrong with them.

"signals" pays at once for the right answer to what is seen; in "balance" a push changes the speed
and only then the place, so that it pays later. All have four observations and episodes of 24
steps, and are learnt in some thousand steps, so that a healthy run of seconds gets clearly better.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

from benchmarks.judgement.cases import Case, Fault

HORIZON, SIGNALS = 24, 4
VARIANTS = (
    "sparse",
    "growing_returns",
    "constant_reward",
    "noisy",
    "curriculum",
    "decay",
    "optimum",
    "short",
    "large_rewards",
)


@dataclass
class Episodes:
    """Returns of the episodes that ended since they were last asked for."""

    returns: list[float] = field(default_factory=list)
    last: float = math.nan


class World:
    """Copies of one game; `update` is set by the trainer, for the fault to know the time.

    Args:
        continuous: Whether the action is a number in [-1, 1], else 0 or 1.
    """

    def __init__(self, case: Case, copies: int, *, continuous: bool, sound: bool = False) -> None:
        self.case, self.variant = case, case.variant
        self.copies, self.continuous = copies, continuous
        self.fault = Fault() if sound else case.fault
        self.random = np.random.default_rng(case.number + (1_000_003 if sound else 0))
        self.update, self.total = 1, 1
        game = random.Random(case.number + 1).choice(("signals", "balance", "balance"))
        self.game = "signals" if case.variant == "optimum" else game
        self.episodes = Episodes()
        self._shown_nan = False
        self.steps = np.zeros(copies, np.int64)
        # Episodes end one after another, not all at once.
        if not sound:
            self.steps = self.random.integers(0, HORIZON, copies)
        self.paid = np.zeros(copies)
        self.streak = np.zeros(copies)
        self.state = self.random.normal(size=(copies, SIGNALS))

    @property
    def late(self) -> bool:
        return self.variant == "curriculum" and self.update > self.total // 2

    def observe(self) -> np.ndarray:
        """What the agent sees, float32 (copies, 4)."""
        seen = self.state.astype(np.float32)
        fault, update = self.fault, self.update
        if fault.on("input_scale", update):
            seen = seen * np.float32(fault.size)
        if fault.on("corrupted_share", update):
            bad = self.random.random(self.copies) < fault.size
            seen[bad] = self.random.normal(size=(int(bad.sum()), SIGNALS)) * 30.0
        if fault.name in {"nan_batch", "inf_input"} and update >= fault.at and not self._shown_nan:
            self._shown_nan = True
            seen[0] = np.nan if fault.name == "nan_batch" else np.inf
        if fault.on("nan_input", update):
            seen[0, 0] = np.nan
        return seen

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations, rewards and ends after one step of every copy; ended ones begin anew."""
        rewards = self._rewards(actions)
        self.steps += 1
        ends = self.steps >= HORIZON
        if self.variant == "sparse":
            # Paid at the end alone, by how much was right.
            self.streak += rewards
            rewards = np.where(ends, np.maximum(self.streak, 0.0), 0.0)
            self.streak[ends] = 0.0
        if self.fault.on("reward_scale", self.update):
            rewards = rewards * self.fault.size
        if self.fault.on("reward_zero", self.update):
            rewards = rewards * 0.0
        self.paid += rewards
        for number in np.flatnonzero(ends):
            self.episodes.last = float(self.paid[number])
            self.episodes.returns.append(float(self.paid[number]))
        self.paid[ends], self.steps[ends] = 0.0, 0
        self._move(actions, ends)
        return self.observe(), rewards.astype(np.float32), ends

    def _rewards(self, actions: np.ndarray) -> np.ndarray:
        if self.game == "balance":
            away = np.abs(self.state[:, 0] - self.state[:, 2])
            rewards, right = np.maximum(1.0 - away, -2.0), away < 0.4
        elif self.continuous:
            away = np.abs(self.state[:, 0] - 2.0 * np.clip(actions.reshape(-1), -1.0, 1.0))
            rewards = 1.0 - away
            right = away < 0.4
        else:
            wanted = self.state[:, 0] + (0.5 * self.state[:, 1] if self.late else 0.0) > 0.0
            if self.variant == "optimum":
                wanted = np.ones(self.copies, bool)
            right = actions.reshape(-1).astype(bool) == wanted
            rewards = np.where(right, 1.0, -0.5)
        if self.variant == "constant_reward":
            return np.ones(self.copies)
        if self.variant == "growing_returns":
            self.streak = np.where(right, self.streak + 1.0, 0.0)
            return 2.0 ** np.minimum(self.streak, 10.0) / 10.0
        noise = self.random.normal(size=self.copies)
        rewards = rewards + (2.0 if self.variant == "noisy" else 0.1) * noise
        return rewards * 30.0 if self.variant == "large_rewards" else rewards

    def _move(self, actions: np.ndarray, ends: np.ndarray) -> None:
        noise = self.random.normal(size=(self.copies, SIGNALS))
        if self.game == "signals":
            self.state = 0.6 * self.state + 0.8 * noise
        else:
            push = np.clip(actions.reshape(-1), -1.0, 1.0)
            push = push if self.continuous else 2.0 * push - 1.0
            place, speed, goal, _ = self.state.T
            speed = 0.7 * speed + 0.6 * push
            goal = goal + (0.1 * noise[:, 2] if self.late else 0.0)
            self.state = np.stack([place + 0.5 * speed, speed, goal, noise[:, 3]], 1)
        self.state[ends] = noise[ends]


def quality(case: Case, act, *, continuous: bool, copies: int = 64) -> float:
    """Minus the mean return of one episode in a sound world; NaN where it cannot act.

    Args:
        act: Observations (copies, 4) to actions, without exploring.
    """
    world = World(case, copies, continuous=continuous, sound=True)
    seen, total = world.observe(), np.zeros(copies)
    for _ in range(HORIZON):
        try:
            actions = np.asarray(act(seen))
        except ValueError:
            # A policy of NaN has no distribution to act by.
            return math.nan
        if not np.isfinite(actions.astype(np.float64)).all():
            return math.nan
        seen, rewards, _ = world.step(actions)
        total += rewards
    return -float(total.mean())
