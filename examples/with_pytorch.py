"""A plain PyTorch loop: policy gradient on a bandit whose sensor breaks after 40 updates.

    pip install ".[torch]" && python with_pytorch.py

The rewards become NaN. The optimizer step with them never happens, the halt names the reading,
and the last good checkpoint is restored.
"""

import math

import torch

import watchstep
from watchstep.rl import standardize_advantages

ARMS = torch.tensor([0.1, 0.5, 0.9, 0.3])


def pull(arms: torch.Tensor, update: int) -> torch.Tensor:
    """Rewards of arms, shape (B,)."""
    rewards = ARMS[arms] + 0.1 * torch.randn(len(arms))
    if update > 40:
        rewards[0] = math.nan
    return rewards


def train(
    watch: watchstep.Watch, policy: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    watch.guard(optimizer)
    for update in range(1, 101):
        actions = torch.distributions.Categorical(logits=policy(torch.ones(256, 1)))
        arms = actions.sample()
        rewards = pull(arms, update)
        advantages, statistics = standardize_advantages(rewards)
        policy_loss = -(advantages * actions.log_prob(arms)).mean()
        optimizer.zero_grad()
        policy_loss.backward()
        optimizer.step()
        entropy_loss = -actions.entropy().mean()
        readings = {"train/policy_loss": policy_loss, "train/entropy_loss": entropy_loss}
        readings["rollout/ep_rew_mean"] = rewards.mean()
        watch.log({**readings, **statistics}, step=update)
        if update % 5 == 0:
            watch.save({"policy": policy, "optimizer": optimizer}, step=update)


def main() -> None:
    torch.manual_seed(0)
    policy = torch.nn.Linear(1, len(ARMS))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    watch = watchstep.init(run="bandit", checkpoints="bandit-checkpoints", on_critical="halt")
    try:
        train(watch, policy, optimizer)
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule}")
    finite = all(bool(parameter.isfinite().all()) for parameter in policy.parameters())
    good = watch.restore({"policy": policy, "optimizer": optimizer})
    print(f"weights finite: {finite}, good checkpoint: update {good.step}")
    print(f"best arm: {int(policy(torch.ones(1, 1)).argmax())}")


if __name__ == "__main__":
    main()
