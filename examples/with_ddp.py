"""DistributedDataParallel: one rank's advantages are of other data, and all ranks stop together.

    pip install ".[torch]" && torchrun --nproc-per-node 2 with_ddp.py

After the gradients have been averaged nothing shows which rank was wrong. Each rank's guard judges
what that rank knows, and the worst verdict decides for all of them in the same step.
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import watchstep
from watchstep.rl import standardize_advantages


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    policy = DistributedDataParallel(torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    watch = watchstep.init(run="ddp", on_critical="halt")
    guard = watch.guard(optimizer, group=True)
    assert guard is not None
    for update in range(1, 51):
        advantages, statistics = standardize_advantages(torch.randn(64))
        if rank == 1 and update == 20:
            advantages = advantages * 40.0
        log_probs = policy(torch.randn(64, 4)).log_softmax(dim=1)[:, 0]
        loss = -(advantages * log_probs).mean()
        optimizer.zero_grad()
        loss.backward()
        guard.note("train/advantages_norm_max_abs", float(advantages.abs().max()))
        guard.note("train/advantages_count", float(statistics["train/advantages_count"]))
        try:
            optimizer.step()
        except watchstep.TrainingHalted as halted:
            print(f"rank {rank} caught, update {update}: {halted}", flush=True)
            break
        watch.log({"train/policy_loss": loss}, step=update)
    watch.finish()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
