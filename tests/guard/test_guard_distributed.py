"""One bad rank decides for all: real processes, gloo between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.ranks import run_ranks

torch = pytest.importorskip("torch")


def test_a_bad_gradient_on_one_rank_is_skipped_by_all_ranks_in_the_same_step(
    tmp_path: Path,
) -> None:
    program = """
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        watch = watching()
        guard = watch.guard(optimizer, group=True)
        untouched = []
        for step in range(6):
            model(torch.ones(3, 4)).sum().backward()
            if rank == 2 and step == 3:
                model.weight.grad[0, 0] = math.nan
            before = bit_hash(model, optimizer)
            optimizer.step()
            if bit_hash(model, optimizer) == before:
                untouched.append(step)
            optimizer.zero_grad()
            watch.log({"train/loss": 1.0})
        reasons = [one.reason for one in watch.transitions if one.rule == "StepSkipped"]
        watch.finish()
        spooled = sum(len(open(os.path.join(at, name), "rb").read())
                      for at, _, names in os.walk(f"spool-{rank}") for name in names)
        tell(untouched=untouched, skipped=guard.skipped, weights=bit_hash(model, optimizer),
             spooled=spooled, errors=watch.errors)
    """

    found = run_ranks(tmp_path, 3, program)

    assert [code for code, _ in found] == [0, 0, 0]
    assert [told["untouched"] for _, told in found] == [[3]] * 3
    assert [told["skipped"] for _, told in found] == [1] * 3
    assert len({told["weights"] for _, told in found}) == 1
    assert all(told["errors"] == {} for _, told in found)
    # Only rank 0 reports, and it names the rank that was bad.
    assert [told["spooled"] > 0 for _, told in found] == [True, False, False]
    spooled = b"".join(
        path.read_bytes() for path in (tmp_path / "spool-0").rglob("*") if path.is_file()
    )
    assert b"rank 2: " in spooled


def test_what_only_one_rank_knows_halts_all_ranks_under_ddp(tmp_path: Path) -> None:
    program = """
        from torch.nn.parallel import DistributedDataParallel

        torch.manual_seed(0)
        model = DistributedDataParallel(torch.nn.Linear(4, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = watching(on_critical="halt")
        guard = watch.guard(optimizer, group=True)
        for step in range(6):
            optimizer.zero_grad()
            model(torch.full((3, 4), float(rank))).sum().backward()
            guard.note("train/advantages_norm_max_abs", 900.0 if (rank, step) == (1, 4) else 2.0)
            guard.note("train/advantages_count", 64.0)
            before = bit_hash(model)
            try:
                optimizer.step()
            except TrainingHalted as halted:
                tell(step=step, why=str(halted), untouched=bit_hash(model) == before)
                raise
    """

    found = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in found] == [76, 76]
    for _, told in found:
        assert told["step"] == 4
        assert told["untouched"]
        assert "AdvantagesBeyondBound: rank 1: " in told["why"]


def test_a_halt_that_one_rank_s_log_asks_for_waits_for_the_others(tmp_path: Path) -> None:
    program = """
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = watching(on_critical="halt")
        watch.guard(optimizer, group=True)
        for step in range(6):
            optimizer.zero_grad()
            model(torch.ones(3, 4)).sum().backward()
            try:
                optimizer.step()
            except TrainingHalted as halted:
                tell(step=step, why=str(halted))
                raise
            watch.log({"train/loss": math.nan if (rank, step) == (1, 2) else 1.0}, step=step)
    """

    found = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in found] == [76, 76]
    assert [told["step"] for _, told in found] == [3, 3]
    assert all("LossNonFinite: rank 1: " in told["why"] for _, told in found)


def test_when_a_rank_dies_the_others_are_not_held_up(tmp_path: Path) -> None:
    program = """
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = watching()
        guard = watch.guard(optimizer, group=True)
        for step in range(6):
            if (rank, step) == (1, 3):
                tell(died=step)
                os._exit(9)
            optimizer.zero_grad()
            model(torch.ones(3, 4)).sum().backward()
            if step == 5:
                model.weight.grad.fill_(math.inf)
            optimizer.step()
        tell(steps=guard.steps, skipped=guard.skipped, errors=watch.errors)
        watch.finish()
        os._exit(0)
    """

    (code, told), (died, _) = run_ranks(tmp_path, 2, program)

    assert died == 9
    # It goes on by itself, and its own guard still guards.
    assert (code, told) == (0, {"steps": 6, "skipped": 1, "errors": {}})


def test_a_bad_shard_is_skipped_on_every_rank_under_fsdp2(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters())
        watch = watching()
        guard = watch.guard(optimizer, group=True)

        def local():
            states = [state for one in optimizer.state.values() for state in one.values()]
            tensors = [*model.parameters(), *states]
            return bit_hash([one.to_local() if hasattr(one, "to_local") else one
                             for one in tensors])

        untouched = []
        for step in range(5):
            model(torch.ones(3, 4)).sum().backward()
            if (rank, step) == (1, 2):
                next(model.parameters()).grad.to_local()[0, 0] = math.nan
            before = local()
            optimizer.step()
            if local() == before:
                untouched.append(step)
            optimizer.zero_grad()
        finite = all(bool(one.to_local().isfinite().all()) for one in model.parameters())
        tell(untouched=untouched, finite=finite, guard_errors=guard.errors, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    found = run_ranks(tmp_path, 2, program)

    healthy = {"untouched": [2], "finite": True, "guard_errors": 0, "errors": {}}
    assert found == [(0, healthy), (0, healthy)]
