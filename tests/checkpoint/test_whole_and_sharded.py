"""Whole checkpoints for sharded models, and processes that do not hold a state alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from checkpoint.test_sharded import in_ranks
from watchstep.checkpoint import CheckpointKeeper
from watchstep.guard import bit_hash

pytestmark = pytest.mark.long


def whole_state() -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.Linear(7, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(3):
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"model": model, "optimizer": optimizer}


def hash_of(state: dict[str, torch.nn.Module | torch.optim.Optimizer]) -> str:
    model, optimizer = state["model"], state["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    tensors = [*model.state_dict().values()]
    for moments in optimizer.state.values():
        tensors += [moments[name] for name in sorted(moments)]
    return bit_hash(tensors)


@pytest.mark.parametrize("world", [1, 3])
def test_what_one_process_saved_whole_is_restored_into_shards_of_any_number(
    world: int, tmp_path: Path
) -> None:
    state = whole_state()
    CheckpointKeeper(tmp_path / "ckpt").save(state, step=9)
    program = """
        state = make(5)
        del state["schedule"]
        checkpoint = CheckpointKeeper("ckpt").restore(state)
        rate = state["optimizer"].param_groups[0]["lr"]
        before = whole(state)
        sharded = all(hasattr(p, "placements") for p in state["model"].parameters())
        state["model"](torch.ones(3, 4)).square().sum().backward()
        state["optimizer"].step()
        report(hash=before, step=checkpoint.step, rate=rate, sharded=sharded,
             trains=whole(state) != before)
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, world, program)

    report = {"hash": hash_of(state), "step": 9, "rate": 0.02, "sharded": True, "trains": True}
    assert ranks == [(0, report)] * world


def test_a_damaged_whole_checkpoint_is_set_aside_by_all_and_the_one_before_restored(
    tmp_path: Path,
) -> None:
    keeper = CheckpointKeeper(tmp_path / "ckpt")
    state = whole_state()
    keeper.save(state, step=1)
    newer = keeper.save(state, step=2)
    assert newer is not None
    content = bytearray(newer.path.read_bytes())
    content[len(content) // 2] ^= 1
    newer.path.write_bytes(content)
    program = """
        state = make(5)
        del state["schedule"]
        checkpoint = CheckpointKeeper("ckpt").restore(state)
        dist.barrier()
        report(step=checkpoint.step, hash=whole(state),
             aside=len(list(Path("ckpt/quarantine").glob("*.pt"))))
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, 2, program)

    assert ranks == [(0, {"step": 1, "hash": hash_of(state), "aside": 1})] * 2


def test_processes_with_shards_refuse_at_once_where_one_comes_with_a_whole_state(
    tmp_path: Path,
) -> None:
    program = """
        import itertools, time
        from watchstep.checkpoint import CollectiveCheck
        store = dist.distributed_c10d._get_default_store()
        shards, reason, begun = make(0), {}, time.monotonic()
        whole_one = {"model": torch.nn.Linear(2, 2)}
        for kind, earlier, late in itertools.product(["save", "restore"], [0, 1], [0, 1]):
            name = f"{kind}-{earlier}-{late}"
            keeper = CheckpointKeeper(name)
            for step in range(earlier):
                keeper.save(shards, step=step)
            state = whole_one if rank == 1 else shards
            if rank == late:
                # The others are there, and wait if they must.
                check = CollectiveCheck(Path(name), kind, 9)
                come = check._key("sharded" if rank == 1 else "whole")
                words = b"save 9" if kind == "save" else b"restore"
                while not store.check([come]) or not store.get(come).startswith(words):
                    time.sleep(0.01)
            try:
                keeper.save(state, step=9) if kind == "save" else keeper.restore(state)
                reason[name] = ""
            except CheckpointError as error:
                reason[name] = str(error)
        report(reason=reason, took_s=time.monotonic() - begun)
        os._exit(0)
    """

    ranks = in_ranks(tmp_path, 3, program)

    assert [code for code, _ in ranks] == [0, 0, 0]
    assert all(report["took_s"] < 60 for _, report in ranks)
    for name in ranks[0][1]["reason"]:
        kind, _, late = name.split("-")
        for rank in (0, 2):
            reason = ranks[rank][1]["reason"][name]
            assert f"{name}: no {kind}: rank 1 holds the state whole, rank {rank} sharded" in reason
        if late == "1":
            assert "holds the state sharded, rank 1 whole" in ranks[1][1]["reason"][name]


def test_a_process_that_saves_a_whole_state_waits_for_no_other(tmp_path: Path) -> None:
    program = """
        if rank == 0:
            keeper = CheckpointKeeper("ckpt")
            model = torch.nn.Linear(2, 2)
            for step in (1, 2):
                keeper.save({"model": model}, step=step)
            report(step=keeper.restore({"model": model}).step)
        else:
            report()
        dist.barrier()
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, 2, program)

    assert ranks == [(0, {"step": 2}), (0, {})]


def test_the_hooks_of_a_mixed_training_count_the_refusal_and_go_on(tmp_path: Path) -> None:
    program = """
        state = make(0)
        watch = watching(checkpoints="ckpt")
        if rank == 1:
            state = {"model": torch.nn.Linear(2, 2)}
        watch.log({"train/loss": 0.5}, step=1)
        watch.save(state, step=1)
        report(errors=watch.errors)
        os._exit(0)
    """

    ranks = in_ranks(tmp_path, 2, program)

    assert ranks[0] == (0, {"errors": {"CheckpointError": 1}})
    assert ranks[1][0] == 0
