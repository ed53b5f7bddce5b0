"""Stable-Baselines3: a PPO that divides advantages by a deviation of earlier rollouts.

    pip install ".[sb3]" && python with_sb3.py

While the market is closed the advantages shrink, and the running deviation follows them. When it
opens they are divided by a deviation that is not theirs. No correct code can produce the result,
so the run is stopped at the first such step, before it reaches the weights.
"""

import torch

import watchstep
from watchstep.demo.agent import faulty_agent, make_env
from watchstep.integrations.sb3 import WatchstepCallback


def main() -> None:
    torch.set_num_threads(1)
    agent = faulty_agent(make_env(opens_at=4_096, seed=3), seed=3)
    callback = WatchstepCallback(run="sb3", on_critical="halt", checkpoints="sb3-checkpoints")
    try:
        agent.learn(20_000, callback=callback)
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule} after {callback.updates} healthy updates")
    assert callback.watch is not None
    good = callback.watch.restore(callback.state())
    print(f"good checkpoint: environment step {good.step}")


if __name__ == "__main__":
    main()
