"""A loop that nobody wants to touch: it writes to TensorBoard, in CleanRL's manner.

    pip install ".[tensorboard]" && python with_tensorboard.py

Two lines before it mirror its scalars. Its learning rate is far too high, the critic diverges, and
the loop is stopped out of `add_scalar`.
"""

import torch
from torch.utils.tensorboard import SummaryWriter

import watchstep
from watchstep.integrations.tensorboard import mirror


def somebody_elses_loop(writer: SummaryWriter) -> None:
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.SGD(critic.parameters(), lr=1e-3)
    for iteration in range(1, 301):
        if iteration == 100:
            optimizer.param_groups[0]["lr"] = 3.0
        observations = torch.randn(128, 4)
        returns = observations.sum(dim=1, keepdim=True) * 5
        value_loss = (critic(observations) - returns).square().mean()
        optimizer.zero_grad()
        value_loss.backward()
        optimizer.step()
        writer.add_scalar("charts/episodic_return", float(returns.mean()), iteration * 128 - 7)
        writer.add_scalar("losses/value_loss", value_loss.item(), iteration * 128)
        writer.add_scalar("charts/SPS", 900, iteration * 128)


def main() -> None:
    writer = SummaryWriter("events")
    watch = watchstep.init(run="cleanrl", on_critical="halt")
    mirrored = mirror(writer, watch, beat="charts/SPS")
    try:
        somebody_elses_loop(writer)
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule} at update {mirrored.updates}")
    before = [transition.rule for transition in watch.transitions if transition.change == "firing"]
    print(f"first sign: {before[0]}")


if __name__ == "__main__":
    main()
