"""RLlib: a NaN loss whose gradients RLlib would set to zero, with no more than a log line.

    pip install ".[rllib]" && python with_rllib.py

The callback sees the gradients before that, skips the step, and halts when they stay NaN.
"""

import logging
import math
from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

import watchstep
from watchstep.integrations.rllib import watchstep_callback


class Overflowing(PPOTorchLearner):
    """Its loss is NaN from the 11th minibatch on."""

    minibatches = 0

    def compute_loss_for_module(self, **given: Any) -> Any:
        loss = super().compute_loss_for_module(**given)
        self.minibatches += 1
        return loss * math.nan if self.minibatches > 10 else loss


def main() -> None:
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    algorithm = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
        .training(
            learner_class=Overflowing,
            train_batch_size_per_learner=256,
            minibatch_size=64,
            num_epochs=2,
        )
        .callbacks(watchstep_callback(run="rllib", on_critical="halt"))
        .build_algo()
    )
    iterations = 0
    try:
        for _ in range(10):
            algorithm.train()
            iterations += 1
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule} after {iterations} iterations")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
