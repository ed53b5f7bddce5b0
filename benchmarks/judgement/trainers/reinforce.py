"""REINFORCE as the textbook has it, with the names of PyTorch's own example."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.trainers.cleanrl import SHARED
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.worlds import HORIZON, SIGNALS, VARIANTS, World, quality

COPIES, UPDATES = 8, 120


class Reinforce:
    """One training: the returns of eight copies over an episode, standardised, per update."""

    def __init__(self, case: Case) -> None:
        self.case, self.fault = case, case.fault
        draw = case.draw()
        self.rate, self.gamma = draw.choice((1e-2, 2e-2)), draw.choice((0.8, 0.9))
        self.updates = 20 if case.variant == "short" else UPDATES
        self.world = World(case, COPIES, continuous=False)
        self.world.total = self.updates
        self.policy = nn.Sequential(nn.Linear(SIGNALS, 32), nn.ReLU(), nn.Linear(32, 2))
        held = copy.deepcopy(self.policy) if self.fault.name == "other_model" else self.policy
        self.optimizer = torch.optim.Adam(held.parameters(), self.rate)
        if self.fault.name == "detached":
            detach_trunk(self.policy)
        self.recording, self.average = Recording(), math.nan

    def act(self, seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = self.policy(torch.as_tensor(seen))
        return Categorical(logits=logits).probs.argmax(-1).numpy()

    def run(self) -> Recording:
        recording = self.recording
        recording.start = quality(self.case, self.act, continuous=False)
        try:
            while recording.next <= self.updates:
                self._update(recording.next)
        except ValueError as error:
            recording.failure = f"ValueError: {str(error).splitlines()[0]}"
            return recording
        recording.outcome = quality(self.case, self.act, continuous=False)
        return recording

    def _update(self, update: int) -> None:
        self.world.update = update
        self._begin(update)
        log_probs, rewards, ends, entropies = self._rollout()
        gamma = self.fault.size if self.fault.on("discount", update) else self.gamma
        returns, running = torch.zeros(HORIZON, COPIES), torch.zeros(COPIES)
        for step in reversed(range(HORIZON)):
            running = rewards[step] + gamma * running * (1.0 - ends[step])
            returns[step] = running
        epsilon = 0.0 if self.fault.on("missing_epsilon", update) else 1e-8
        standard = (returns - returns.mean()) / (returns.std() + epsilon)
        loss = -(log_probs * standard).mean()
        if self.fault.on("masked_loss", update):
            loss = loss * 0.0
        self.optimizer.zero_grad()
        (-loss if self.fault.on("loss_sign", update) else loss).backward()
        self.optimizer.step()
        last = self.world.episodes.last
        self.average = last if math.isnan(self.average) else 0.95 * self.average + 0.05 * last
        self.recording.log(
            update * HORIZON * COPIES,
            {
                "policy_loss": float(loss),
                "entropy": float(entropies.mean()),
                "last_reward": last,
                "average_reward": self.average,
            },
        )

    def _begin(self, update: int) -> None:
        rate = self.rate * rate_factor(self.fault, update)
        if self.case.variant == "decay":
            rate *= 1.0 - (update - 1) / self.updates
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        meddle(self.policy, self.fault, update)
        if self.fault.name in {"resume_weights", "resume_rate"} and update == self.fault.at:
            self.recording.attempt = 2
            if self.fault.name == "resume_weights":
                forget(self.policy)

    def _rollout(self) -> tuple[torch.Tensor, ...]:
        rows = []
        seen = self.world.observe()
        for _ in range(HORIZON):
            policy = Categorical(logits=self.policy(torch.as_tensor(seen)))
            actions = policy.sample()
            seen, rewards, ends = self.world.step(actions.numpy())
            rows.append(
                (
                    policy.log_prob(actions),
                    torch.as_tensor(rewards),
                    torch.as_tensor(ends).float(),
                    policy.entropy(),
                )
            )
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))


def _train(case: Case) -> Recording:
    torch.manual_seed(case.number)
    return Reinforce(case).run()


TRAINERS = (
    Trainer(
        "reinforce",
        "REINFORCE",
        "on_policy",
        _train,
        {
            "policy": ("policy_loss",),
            "entropy": ("entropy",),
            "reward": ("last_reward", "average_reward"),
        },
        (*SHARED, "missing_epsilon"),
        VARIANTS,
        UPDATES,
    ),
)
