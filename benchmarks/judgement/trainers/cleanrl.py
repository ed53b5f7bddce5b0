"""PPO, DQN and SAC in one file each way, after the papers, logging CleanRL's names."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, Normal
from torch.nn import functional

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.faults import IDLE, INPUTS, RESUMES, WEIGHTS
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.worlds import HORIZON, SIGNALS, VARIANTS, World, quality

COPIES = 8
STEPS, EPOCHS, MINIBATCH = 32, 3, 128
"""Of PPO."""


def _mlp(inputs: int, outputs: int, width: int = 32, gain: float = 1.0) -> nn.Sequential:
    last = nn.Linear(width, outputs)
    nn.init.orthogonal_(last.weight, gain)
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last
    )


class Agent(nn.Module):
    """Actor and critic."""

    def __init__(self, *, continuous: bool) -> None:
        super().__init__()
        self.continuous = continuous
        self.actor = _mlp(SIGNALS, 1 if continuous else 2, gain=0.01)
        self.critic = _mlp(SIGNALS, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    def policy(self, seen: torch.Tensor) -> Categorical | Normal:
        out = self.actor(seen)
        if self.continuous:
            return Normal(out.squeeze(-1), self.log_std.exp().expand(len(out)))
        return Categorical(logits=out)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """The likeliest actions."""
        with torch.no_grad():
            policy = self.policy(torch.as_tensor(seen))
        return (policy.mean if isinstance(policy, Normal) else policy.probs.argmax(-1)).numpy()


@dataclass
class PPOSettings:
    rate: float
    gamma: float
    entropy: float
    value: float
    clip_norm: float
    updates: int


class PPO:
    """One training with proximal policy optimisation."""

    def __init__(self, case: Case) -> None:
        self.case, self.fault = case, case.fault
        draw = case.draw()
        self.settings = PPOSettings(
            rate=draw.choice((3e-3, 5e-3)),
            gamma=draw.choice((0.9, 0.95)),
            entropy=draw.choice((0.0, 0.01)),
            value=0.5,
            clip_norm=0.5,
            updates=20 if case.variant == "short" else 100,
        )
        self.continuous = draw.random() < 0.5
        self.world = World(case, COPIES, continuous=self.continuous)
        self.world.total = self.settings.updates
        self.agent = Agent(continuous=self.continuous)
        self.optimizer = self._optimizer(self.agent)
        if self.fault.name == "other_model":
            self.optimizer = self._optimizer(copy.deepcopy(self.agent))
        if self.fault.name == "detached":
            detach_trunk(self.agent.actor)
        self.recording = Recording()
        self.known = 0.0, 1.0
        self.seen = self.world.observe()

    def _optimizer(self, agent: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(agent.parameters(), self.settings.rate, eps=1e-5)

    def quality(self) -> float:
        return quality(self.case, self.agent.act, continuous=self.continuous)

    def run(self) -> Recording:
        recording = self.recording
        recording.start = self.quality()
        try:
            while recording.next <= self.settings.updates:
                self._update(recording.next)
        except ValueError as error:
            recording.failure = f"ValueError: {error}"
        recording.outcome = math.nan if recording.failure else self.quality()
        return recording

    def _coefficients(self, update: int) -> tuple[float, float, float]:
        """Discount, weight of the value loss, weight of the entropy."""
        fault, settings = self.fault, self.settings
        gamma = fault.size if fault.on("discount", update) else settings.gamma
        value = fault.size if fault.on("value_coefficient", update) else settings.value
        entropy = settings.entropy
        if fault.on("entropy_runaway", update):
            entropy = fault.size
        if fault.on("entropy_negative", update):
            entropy = -fault.size
        return gamma, value, entropy

    def _update(self, update: int) -> None:
        self._begin(update)
        gamma, value_weight, entropy_weight = self._coefficients(update)
        rate = self.settings.rate * rate_factor(self.fault, update)
        if self.case.variant == "decay":
            rate *= 1.0 - (update - 1) / self.settings.updates
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rollout = self._rollout()
        advantages, returns = self._advantages(rollout, gamma)
        numbers: dict[str, float] = {}
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(returns)).split(MINIBATCH):
                batch = {name: values[rows] for name, values in rollout.items()}
                batch |= {"advantages": advantages[rows], "returns": returns[rows]}
                numbers = self._minibatch(batch, value_weight, entropy_weight, update)
        self._remember(advantages)
        spread = float(returns.var())
        fit = 1.0 - float((returns - rollout["values"]).var()) / spread if spread else math.nan
        self.recording.log(
            update * STEPS * COPIES,
            {
                "charts/learning_rate": rate,
                **numbers,
                "losses/explained_variance": fit,
                "charts/episodic_return": self.world.episodes.last,
                "charts/episodic_length": HORIZON,
            },
        )

    def _begin(self, update: int) -> None:
        self.world.update = update
        meddle(self.agent, self.fault, update)
        if self.fault.name in {"resume_weights", "resume_rate"} and update == self.fault.at:
            self.recording.attempt = 2
            if self.fault.name == "resume_weights":
                forget(self.agent)
                self.optimizer = self._optimizer(self.agent)

    @torch.no_grad()
    def _rollout(self) -> dict[str, torch.Tensor]:
        columns: dict[str, list[torch.Tensor]] = {}
        for _ in range(STEPS):
            seen = torch.as_tensor(self.seen)
            policy = self.agent.policy(seen)
            actions = policy.sample()
            values = self.agent.critic(seen).squeeze(-1)
            self.seen, rewards, ends = self.world.step(actions.numpy())
            row = {
                "seen": seen,
                "actions": actions,
                "log_probs": policy.log_prob(actions),
                "values": values,
                "rewards": torch.as_tensor(rewards),
                "ends": torch.as_tensor(ends).float(),
            }
            for name, column in row.items():
                columns.setdefault(name, []).append(column)
        stacked = {name: torch.stack(rows) for name, rows in columns.items()}
        self.last_values = self.agent.critic(torch.as_tensor(self.seen)).squeeze(-1)
        self.shape = stacked["rewards"].shape
        return {name: rows.flatten(0, 1) for name, rows in stacked.items()}

    def _advantages(
        self, rollout: dict[str, torch.Tensor], gamma: float, smoothing: float = 0.95
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Generalised advantage estimates and the returns they imply, both flat."""
        rewards, values, ends = (
            rollout[name].view(self.shape) for name in ("rewards", "values", "ends")
        )
        advantages, following = torch.zeros_like(rewards), self.last_values
        running = torch.zeros(COPIES)
        for step in reversed(range(len(rewards))):
            goes_on = 1.0 - ends[step]
            delta = rewards[step] + gamma * following * goes_on - values[step]
            running = delta + gamma * smoothing * goes_on * running
            advantages[step], following = running, values[step]
        return advantages.flatten(), (advantages + values).flatten()

    def _standardised(self, advantages: torch.Tensor, update: int) -> torch.Tensor:
        if self.fault.on("missing_epsilon", update):
            # The game pays nothing for a while: without an epsilon that is 0 / 0.
            return (advantages - advantages.mean()) / advantages.std()
        if self.fault.on("stale_statistics", update):
            mean, std = self.known
            return (advantages - mean) / (std * self.fault.size + 1e-8)
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    def _remember(self, advantages: torch.Tensor) -> None:
        self.known = float(advantages.mean()), float(advantages.std())

    def _minibatch(
        self,
        batch: dict[str, torch.Tensor],
        value_weight: float,
        entropy_weight: float,
        update: int,
    ) -> dict[str, float]:
        policy = self.agent.policy(batch["seen"])
        log_ratio = policy.log_prob(batch["actions"]) - batch["log_probs"]
        ratio = log_ratio.exp()
        advantages = self._standardised(batch["advantages"], update)
        clipped = ratio.clamp(0.8, 1.2)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        value_loss = 0.5 * functional.mse_loss(
            self.agent.critic(batch["seen"]).squeeze(-1), batch["returns"]
        )
        entropy = policy.entropy().mean()
        if self.fault.on("masked_loss", update):
            policy_loss, value_loss, entropy = 0.0 * policy_loss, 0.0 * value_loss, 0.0 * entropy
        loss = policy_loss + value_weight * value_loss - entropy_weight * entropy
        self.agent.zero_grad()
        (-loss if self.fault.on("loss_sign", update) else loss).backward()
        nn.utils.clip_grad_norm_(self.agent.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            return {
                "losses/value_loss": float(value_loss),
                "losses/policy_loss": float(policy_loss),
                "losses/entropy": float(entropy),
                "losses/old_approx_kl": float(-log_ratio.mean()),
                "losses/approx_kl": float((ratio - 1 - log_ratio).mean()),
                "losses/clipfrac": float(((ratio - 1).abs() > 0.2).float().mean()),
            }


class Memory:
    """The last transitions, drawn from at random."""

    def __init__(self, capacity: int, *, continuous: bool) -> None:
        self.seen = np.zeros((capacity, SIGNALS), np.float32)
        self.after = np.zeros((capacity, SIGNALS), np.float32)
        self.actions = np.zeros(capacity, np.float32 if continuous else np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.size, self.place = 0, 0

    def add(self, seen: np.ndarray, actions: np.ndarray, rewards: np.ndarray, after: np.ndarray):
        rows = (self.place + np.arange(len(seen))) % len(self.rewards)
        self.seen[rows], self.actions[rows] = seen, actions
        self.rewards[rows], self.after[rows] = rewards, after
        self.place = (self.place + len(seen)) % len(self.rewards)
        self.size = min(self.size + len(seen), len(self.rewards))

    def draw(self, random: np.random.Generator, count: int) -> tuple[torch.Tensor, ...]:
        rows = random.integers(0, self.size, count)
        columns = (self.seen, self.actions, self.rewards, self.after)
        return tuple(torch.as_tensor(column[rows]) for column in columns)


class OffPolicy:
    """What DQN and SAC share: they act, remember, and learn from what they remember.

    The games end by the clock, so the value after the last step is bootstrapped as well.
    """

    updates, every, warm_up, continuous = 100, 10, 20, False

    def __init__(self, case: Case) -> None:
        self.case, self.fault = case, case.fault
        draw = case.draw()
        self.rate = draw.choice((2e-3, 4e-3))
        self.gamma = draw.choice((0.9, 0.95))
        if case.variant == "short":
            self.updates = 20
        self.world = World(case, COPIES, continuous=self.continuous)
        self.world.total = self.updates
        self.random = np.random.default_rng(case.number)
        self.memory = Memory(4000, continuous=self.continuous)
        self.recording = Recording()
        self.build()

    def run(self) -> Recording:
        recording = self.recording
        recording.start = self.quality()
        seen, step = self.world.observe(), 0
        while recording.next <= self.updates:
            update = recording.next
            self._begin(update)
            numbers: dict[str, float] = {}
            for _ in range(self.every):
                actions = self.explore(seen, step)
                after, rewards, _ = self.world.step(actions)
                self.memory.add(seen, actions.reshape(-1), rewards, after)
                seen, step = after, step + 1
                if step > self.warm_up:
                    numbers = self.learn(update)
            numbers["charts/episodic_return"] = self.world.episodes.last
            recording.log(step * COPIES, numbers)
        recording.outcome = self.quality()
        return recording

    def _begin(self, update: int) -> None:
        self.world.update = update
        rate = self.rate * rate_factor(self.fault, update)
        if self.case.variant == "decay":
            rate *= 1.0 - (update - 1) / self.updates
        for optimizer in self.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = rate
        for model in self.models():
            meddle(model, self.fault, update)
        if self.fault.name in {"resume_weights", "resume_rate"} and update == self.fault.at:
            self.recording.attempt = 2
            if self.fault.name == "resume_weights":
                for model in self.models():
                    forget(model)

    def discount(self, update: int) -> float:
        return self.fault.size if self.fault.on("discount", update) else self.gamma

    def target_share(self, update: int) -> float:
        """How much of the online weights the target takes at each step."""
        if self.fault.on("target_never", update):
            return 0.0
        return 1.0 if self.fault.on("target_live", update) else 0.05

    def descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, update: int) -> None:
        optimizer.zero_grad()
        if self.fault.on("masked_loss", update):
            loss = loss * 0.0
        (-loss if self.fault.on("loss_sign", update) else loss).backward()
        optimizer.step()

    @torch.no_grad()
    def follow(self, target: nn.Module, model: nn.Module, update: int) -> None:
        share = self.target_share(update)
        for theirs, ours in zip(target.parameters(), model.parameters(), strict=True):
            theirs.lerp_(ours, share)


class DQN(OffPolicy):
    """Deep Q-learning over two actions."""

    updates, every = 120, 8

    def build(self) -> None:
        self.q = _mlp(SIGNALS, 2, gain=1.0)
        self.target = copy.deepcopy(self.q)
        held = copy.deepcopy(self.q) if self.fault.name == "other_model" else self.q
        self.optimizer = torch.optim.Adam(held.parameters(), self.rate)
        if self.fault.name == "detached":
            detach_trunk(self.q)

    def optimizers(self):
        return (self.optimizer,)

    def models(self):
        return (self.q,)

    def act(self, seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            values = self.q(torch.as_tensor(seen))
        # Without a number to compare there is no best action.
        return torch.where(values.isfinite().all(-1), values.argmax(-1).float(), math.nan).numpy()

    def quality(self) -> float:
        return quality(self.case, self.act, continuous=False)

    def explore(self, seen: np.ndarray, step: int) -> np.ndarray:
        with torch.no_grad():
            best = self.q(torch.as_tensor(seen)).argmax(-1).numpy()
        chance = max(0.05, 1.0 - step / (0.4 * self.updates * self.every))
        guess = self.random.random(COPIES) < chance
        return np.where(guess, self.random.integers(0, 2, COPIES), best)

    def learn(self, update: int) -> dict[str, float]:
        seen, actions, rewards, after = self.memory.draw(self.random, 64)
        with torch.no_grad():
            aim = rewards + self.discount(update) * self.target(after).max(-1).values
        values = self.q(seen).gather(1, actions[:, None]).squeeze(1)
        loss = functional.mse_loss(values, aim)
        self.descend(loss, self.optimizer, update)
        self.follow(self.target, self.q, update)
        return {"losses/td_loss": float(loss), "losses/q_values": float(values.mean())}


class SAC(OffPolicy):
    """Soft actor-critic for one number in [-1, 1], with its temperature tuned."""

    updates, every, continuous = 100, 5, True

    def build(self) -> None:
        self.actor = _mlp(SIGNALS, 2, gain=0.01)
        self.critics = nn.ModuleList(_mlp(SIGNALS + 1, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(torch.tensor(-1.0))
        held_actor, held_critics = self.actor, self.critics
        if self.fault.name == "other_model":
            held_actor, held_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam(held_actor.parameters(), self.rate)
        self.critic_optimizer = torch.optim.Adam(held_critics.parameters(), self.rate)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], self.rate)
        if self.fault.name == "detached":
            detach_trunk(self.actor)

    def optimizers(self):
        return (self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer)

    def models(self):
        return (self.actor, self.critics)

    def _sample(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = self.actor(seen).chunk(2, -1)
        std = log_std.clamp(-5.0, 2.0).exp()
        raw = mean + std * torch.randn_like(mean)
        action = raw.tanh()
        log_prob = -0.5 * ((raw - mean) / std) ** 2 - std.log() - 0.919
        return action, log_prob - (1.0 - action**2 + 1e-6).log()

    def act(self, seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.actor(torch.as_tensor(seen))[:, :1].tanh().numpy()

    def quality(self) -> float:
        return quality(self.case, self.act, continuous=True)

    def explore(self, seen: np.ndarray, step: int) -> np.ndarray:
        if step < self.warm_up:
            return self.random.uniform(-1.0, 1.0, (COPIES, 1)).astype(np.float32)
        with torch.no_grad():
            return self._sample(torch.as_tensor(seen))[0].numpy()

    def learn(self, update: int) -> dict[str, float]:
        seen, actions, rewards, after = self.memory.draw(self.random, 64)
        alpha = float(self.log_alpha.exp())
        with torch.no_grad():
            following, log_prob = self._sample(after)
            worth = torch.min(*(q(torch.cat([after, following], 1)) for q in self.targets))
            soft = (worth - alpha * log_prob).squeeze(1)
            aim = rewards + self.discount(update) * soft
        values = [q(torch.cat([seen, actions[:, None]], 1)).squeeze(1) for q in self.critics]
        losses = [functional.mse_loss(value, aim) for value in values]
        self.descend(losses[0] + losses[1], self.critic_optimizer, update)
        chosen, log_prob = self._sample(seen)
        worth = torch.min(*(q(torch.cat([seen, chosen], 1)) for q in self.critics))
        actor_loss = (alpha * log_prob - worth).mean()
        self.descend(actor_loss, self.actor_optimizer, update)
        # A target of the wrong sign asks for ever more, or ever less, entropy.
        wanted = {"entropy_runaway": 5.0, "entropy_negative": -20.0}
        target = wanted[self.fault.name] if self._entropy_wrong(update) else -1.0
        alpha_loss = (-self.log_alpha.exp() * (log_prob + target).detach()).mean()
        self.descend(alpha_loss, self.alpha_optimizer, update)
        self.follow(self.targets, self.critics, update)
        return {
            "losses/qf1_values": float(values[0].mean()),
            "losses/qf2_values": float(values[1].mean()),
            "losses/qf1_loss": float(losses[0]),
            "losses/qf2_loss": float(losses[1]),
            "losses/qf_loss": float(losses[0] + losses[1]) / 2.0,
            "losses/actor_loss": float(actor_loss),
            "losses/alpha": alpha,
            "losses/alpha_loss": float(alpha_loss),
        }

    def _entropy_wrong(self, update: int) -> bool:
        return self.fault.name.startswith("entropy_") and update >= self.fault.at


def _train(kind: type[PPO | DQN | SAC], case: Case) -> Recording:
    torch.manual_seed(case.number)
    return kind(case).run()


_SCALES = ("input_scale", "reward_scale", "reward_zero", "discount")
SHARED = (*IDLE, *INPUTS, *_SCALES, *RESUMES, *WEIGHTS)
"""Faults of all reinforcement learning here."""
ON_POLICY = (
    *SHARED,
    "value_coefficient",
    "entropy_runaway",
    "entropy_negative",
    "stale_statistics",
)
DISCRETE_ONLY = ("curriculum", "optimum")
TRAINERS = (
    Trainer(
        "cleanrl_ppo",
        "PPO",
        "on_policy",
        functools.partial(_train, PPO),
        {
            "rate": ("charts/learning_rate",),
            "value": ("losses/value_loss", "losses/explained_variance"),
            "policy": ("losses/policy_loss", "losses/clipfrac"),
            "entropy": ("losses/entropy",),
            "kl": ("losses/approx_kl", "losses/old_approx_kl"),
            "reward": ("charts/episodic_return",),
        },
        ON_POLICY,
        VARIANTS,
        100,
    ),
    Trainer(
        "cleanrl_dqn",
        "DQN",
        "off_policy",
        functools.partial(_train, DQN),
        {
            "loss": ("losses/td_loss",),
            "value": ("losses/q_values",),
            "reward": ("charts/episodic_return",),
        },
        (*SHARED, "target_never", "target_live"),
        VARIANTS,
        120,
    ),
    Trainer(
        "cleanrl_sac",
        "SAC",
        "off_policy",
        functools.partial(_train, SAC),
        {
            "loss": ("losses/qf1_loss", "losses/qf2_loss", "losses/qf_loss"),
            "value": ("losses/qf1_values", "losses/qf2_values"),
            "policy": ("losses/actor_loss",),
            "weight": ("losses/alpha", "losses/alpha_loss"),
            "reward": ("charts/episodic_return",),
        },
        (*SHARED, "target_never", "target_live", "entropy_runaway", "entropy_negative"),
        tuple(name for name in VARIANTS if name not in DISCRETE_ONLY),
        100,
    ),
)
