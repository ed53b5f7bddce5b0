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


def test_the_norm_of_sharded_gradients_is_that_of_all_shards(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        def norms(mesh):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Linear(9, 2))
            plain = torch.nn.Linear(3, 3)
            if mesh is not None:
                fully_shard(model, mesh=mesh)
            parameters = [*model.parameters(), *plain.parameters()]
            optimizer = torch.optim.SGD(parameters, lr=0.01)
            guard = watch.guard(optimizer, group=True)
            found = []
            for clips in (False, True):
                plain(torch.ones(2, 3)).square().sum().backward()
                model(torch.ones(3, 4)).square().sum().backward()
                if clips:
                    guard.before_clipping(parameters)
                optimizer.step()
                optimizer.zero_grad()
                found.append(guard.last_norm)
            return found

        watch = watching()
        whole = norms(None)
        sharded = norms(init_device_mesh("cpu", (world,)))
        replicated = norms(init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("r", "s")))
        tell(whole=whole, sharded=sharded, replicated=replicated, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    found = run_ranks(tmp_path, 4, program)

    for code, told in found:
        assert (code, told["errors"]) == (0, {})
        assert told["sharded"] == pytest.approx(told["whole"], rel=1e-5)
        assert told["replicated"] == pytest.approx(told["whole"], rel=1e-5)


def test_the_bad_shard_s_rank_is_named_although_all_measure_together(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        model = torch.nn.Linear(4, 8)
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters())
        watch = watching(on_critical="halt", capture_text=False)
        said = []
        put = watch._stream.put
        watch._stream.put = lambda readings, event=None, *more: (
            said.append(event["reason"]) if event and event["kind"] == "guard" else None,
            put(readings, event, *more))[1]
        watch.guard(optimizer, group=True)
        model(torch.ones(3, 4)).sum().backward()
        if rank == 2:
            next(model.parameters()).grad.to_local()[0, 0] = math.nan
        optimizer.step()
        watch.log({"train/loss": 1.0})  # A skipped step is told by the update that it is part of.
        tell(said=said)
        watch.finish()
        dist.destroy_process_group()
    """

    found = run_ranks(tmp_path, 3, program)

    for _, told in found:
        assert len(told["said"]) == 1
        assert "rank 2" in told["said"][0]


def test_watch_saves_and_rolls_back_sharded_state_on_all_ranks_together(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        torch.manual_seed(0)
        model = torch.nn.Linear(4, 8)
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters())
        watch = watching(on_critical="rollback", checkpoints="ckpt")
        guard = watch.guard(optimizer, group=True)
        state = {"model": model, "optimizer": optimizer}
        actions, hashes = [], {}
        for step in range(1, 9):
            loss = model(torch.ones(3, 4)).square().mean()
            loss.backward()
            if (rank, step) == (1, 6):
                guard.note("train/advantages_norm_max_abs", 900.0)
                guard.note("train/advantages_count", 64.0)
            optimizer.step()
            optimizer.zero_grad()
            now = bit_hash([one.to_local() for one in model.parameters()])
            hashes[step] = now
            if step == 6:
                back = [at for at in range(1, 6) if hashes[at] == now]
            actions.append(int(watch.log({"train/loss": float(loss)}, step=step).action))
            watch.save(state, step=step)
        tell(back=back, rollbacks=watch._actions.rollbacks, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    found = run_ranks(tmp_path, 2, program)

    assert found == [(0, {"back": [4], "rollbacks": 1, "errors": {}})] * 2


def test_under_ddp_one_process_writes_what_all_hold_alike_and_all_restore_it(
    tmp_path: Path,
) -> None:
    program = """
        from torch.nn.parallel import DistributedDataParallel

        torch.manual_seed(0)
        model = DistributedDataParallel(torch.nn.Linear(4, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = watching(checkpoints="ckpt")
        state = {"model": model.module, "optimizer": optimizer}
        kept = []
        for step in range(1, 4):
            model(torch.ones(3, 4)).sum().backward()
            optimizer.step()
            watch.log({"train/loss": 0.5}, step=step)
            kept.append(watch.save(state, step=step) is not None)
        dist.barrier()
        expected = bit_hash(model)
        with torch.no_grad():
            model.module.weight.zero_()
        found = watch.restore(step=3)
        tell(kept=kept, step=found.step, same=bit_hash(model) == expected,
             files=len([one for one in os.listdir("ckpt") if one.endswith(".pt")]))
        watch.finish()
        dist.destroy_process_group()
    """

    found = run_ranks(tmp_path, 2, program)

    told = {"step": 3, "same": True, "files": 3}
    assert found == [(0, {"kept": [True] * 3, **told}), (0, {"kept": [False] * 3, **told})]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["fsdp2", "fsdp1"])
def test_shared_parameters_step_together_or_not_at_all_also_without_a_group(
    tmp_path: Path, kind: str, fused: bool
) -> None:
    program = f"""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
        from watchstep.core.updates import Action, Verdict
        from watchstep.guard import Guard

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        if {kind!r} == "fsdp2":
            fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        else:
            model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        optimizer = torch.optim.AdamW(model.parameters(), fused={fused})

        def judge(readings):
            bad = readings["guard/nonfinite_gradients"] > 0
            return Verdict(Action.SKIP, ("r",), "bad") if bad else Verdict()

        guard = Guard(optimizer, judge, strict=False)

        def local():
            return bit_hash([one.to_local() if hasattr(one, "to_local") else one
                             for one in model.parameters()])

        untouched, norms = [], []
        for step in range(5):
            optimizer.zero_grad()
            model(torch.ones(3, 4)).sum().backward()
            if (rank, step) == (1, 2):
                grad = next(p for p in model.parameters() if p.grad is not None).grad
                grad = grad.to_local() if hasattr(grad, "to_local") else grad
                grad.reshape(-1)[0] = math.nan
            before = local()
            optimizer.step()
            if local() == before:
                untouched.append(step)
            norms.append(guard.last_norm)
        tell(untouched=untouched, errors=guard.errors, norm=norms[0])
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [(code, told["untouched"], told["errors"]) for code, told in ranks] == [(0, [2], 0)] * 2
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    model(torch.ones(3, 4)).sum().backward()
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert [told["norm"] for _, told in ranks] == pytest.approx([float(whole)] * 2, rel=1e-4)


def test_where_not_all_guard_what_they_share_the_guard_is_refused(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        import watchstep.guard.distributed as together
        from watchstep.errors import GuardRefusedError
        from watchstep.core.updates import Verdict
        from watchstep.guard import Guard

        together.MEETING_S = 0.5
        model = torch.nn.Linear(4, 8)
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters())
        why = ""
        if rank == 0:
            try:
                Guard(optimizer, lambda readings: Verdict())
            except GuardRefusedError as error:
                why = str(error)
        dist.barrier()
        if rank == 1:
            try:
                Guard(optimizer, lambda readings: Verdict())
            except GuardRefusedError as error:
                why = str(error)
        model(torch.ones(3, 4)).sum().backward()
        optimizer.step()
        tell(why=why)
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    for code, told in ranks:
        assert code == 0
        assert "1 of the 2 processes that share the parameters guard the optimizer" in told["why"]
