"""One bad rank decides for all: real processes, gloo between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.ranks import run_ranks

pytestmark = pytest.mark.long

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
        reasons = [t.reason for t in watch.transitions if t.rule == "StepSkipped"]
        watch.finish()
        spooled = sum(len(open(os.path.join(at, name), "rb").read())
                      for at, _, names in os.walk(f"spool-{rank}") for name in names)
        report(untouched=untouched, skipped=guard.skipped, weights=bit_hash(model, optimizer),
             spooled=spooled, errors=watch.errors)
    """

    ranks = run_ranks(tmp_path, 3, program)

    assert [code for code, _ in ranks] == [0, 0, 0]
    assert [report["untouched"] for _, report in ranks] == [[3]] * 3
    assert [report["skipped"] for _, report in ranks] == [1] * 3
    assert len({report["weights"] for _, report in ranks}) == 1
    assert all(report["errors"] == {} for _, report in ranks)
    # Only rank 0 reports, and it names the rank that was bad.
    assert [report["spooled"] > 0 for _, report in ranks] == [True, False, False]
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
                report(step=step, why=str(halted), untouched=bit_hash(model) == before)
                raise
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [76, 76]
    for _, report in ranks:
        assert report["step"] == 4
        assert report["untouched"]
        assert "AdvantagesBeyondBound: rank 1: " in report["why"]


def test_a_halt_that_one_rank_s_log_asks_for_waits_for_the_others(tmp_path: Path) -> None:
    program = """
        steps_until_halted(
            watching(on_critical="halt"),
            lambda step: {"train/loss": math.nan if (rank, step) == (1, 2) else 1.0},
        )
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [76, 76]
    assert [report["step"] for _, report in ranks] == [3, 3]
    assert all("LossNonFinite: rank 1: " in report["why"] for _, report in ranks)


def test_when_a_rank_dies_the_others_are_not_held_up(tmp_path: Path) -> None:
    program = """
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = watching()
        guard = watch.guard(optimizer, group=True)
        for step in range(6):
            if (rank, step) == (1, 3):
                report(died=step)
                os._exit(9)
            optimizer.zero_grad()
            model(torch.ones(3, 4)).sum().backward()
            if step == 5:
                model.weight.grad.fill_(math.inf)
            optimizer.step()
        report(steps=guard.steps, skipped=guard.skipped, errors=watch.errors)
        watch.finish()
        os._exit(0)
    """

    (code, report), (died, _) = run_ranks(tmp_path, 2, program)

    assert died == 9
    # It goes on by itself, and its own guard still guards.
    assert (code, report) == (0, {"steps": 6, "skipped": 1, "errors": {}})


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
            states = [t for moments in optimizer.state.values() for t in moments.values()]
            tensors = [*model.parameters(), *states]
            return bit_hash([t.to_local() if hasattr(t, "to_local") else t
                             for t in tensors])

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
        finite = all(bool(p.to_local().isfinite().all()) for p in model.parameters())
        report(untouched=untouched, finite=finite, guard_errors=guard.errors, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    healthy = {"untouched": [2], "finite": True, "guard_errors": 0, "errors": {}}
    assert ranks == [(0, healthy), (0, healthy)]


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
            values = []
            for clips in (False, True):
                plain(torch.ones(2, 3)).square().sum().backward()
                model(torch.ones(3, 4)).square().sum().backward()
                if clips:
                    guard.before_clipping(parameters)
                optimizer.step()
                optimizer.zero_grad()
                values.append(guard.last_norm)
            return values

        watch = watching()
        whole = norms(None)
        sharded = norms(init_device_mesh("cpu", (world,)))
        replicated = norms(init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("r", "s")))
        report(whole=whole, sharded=sharded, replicated=replicated, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 4, program)

    for code, report in ranks:
        assert (code, report["errors"]) == (0, {})
        assert report["sharded"] == pytest.approx(report["whole"], rel=1e-5)
        assert report["replicated"] == pytest.approx(report["whole"], rel=1e-5)


def test_the_bad_shard_s_rank_is_named_although_all_measure_together(tmp_path: Path) -> None:
    program = """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        model = torch.nn.Linear(4, 8)
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters())
        watch = watching(on_critical="halt", capture_text=False)
        reason = []
        put = watch._stream.put
        watch._stream.put = lambda readings, event=None, *more: (
            reason.append(event["reason"]) if event and event["kind"] == "guard" else None,
            put(readings, event, *more))[1]
        watch.guard(optimizer, group=True)
        model(torch.ones(3, 4)).sum().backward()
        if rank == 2:
            next(model.parameters()).grad.to_local()[0, 0] = math.nan
        optimizer.step()
        watch.log({"train/loss": 1.0})  # A skipped step is report by the update that it is part of.
        report(reason=reason)
        watch.finish()
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 3, program)

    for _, report in ranks:
        assert len(report["reason"]) == 1
        assert "rank 2" in report["reason"][0]


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
            now = bit_hash([p.to_local() for p in model.parameters()])
            hashes[step] = now
            if step == 6:
                back = [at for at in range(1, 6) if hashes[at] == now]
            actions.append(int(watch.log({"train/loss": float(loss)}, step=step).action))
            watch.save(state, step=step)
        report(back=back, rollbacks=watch._actions.rollbacks, errors=watch.errors)
        watch.finish()
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert ranks == [(0, {"back": [4], "rollbacks": 1, "errors": {}})] * 2


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
        written = []
        for step in range(1, 4):
            model(torch.ones(3, 4)).sum().backward()
            optimizer.step()
            watch.log({"train/loss": 0.5}, step=step)
            written.append(watch.save(state, step=step) is not None)
        dist.barrier()
        expected = bit_hash(model)
        with torch.no_grad():
            model.module.weight.zero_()
        checkpoint = watch.restore(step=3)
        report(written=written, step=checkpoint.step, same=bit_hash(model) == expected,
             files=len([name for name in os.listdir("ckpt") if name.endswith(".pt")]))
        watch.finish()
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    report = {"step": 3, "same": True, "files": 3}
    assert ranks == [
        (0, {"written": [True] * 3, **report}),
        (0, {"written": [False] * 3, **report}),
    ]


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
            return bit_hash([t.to_local() if hasattr(t, "to_local") else t
                             for t in model.parameters()])

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
        report(untouched=untouched, errors=guard.errors, norm=norms[0])
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [(code, report["untouched"], report["errors"]) for code, report in ranks] == [
        (0, [2], 0)
    ] * 2
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    model(torch.ones(3, 4)).sum().backward()
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert [report["norm"] for _, report in ranks] == pytest.approx([float(whole)] * 2, rel=1e-4)


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
        report(why=why)
        dist.destroy_process_group()
    """

    ranks = run_ranks(tmp_path, 2, program)

    for code, report in ranks:
        assert code == 0
        assert "1 of the 2 processes that share the parameters guard the optimizer" in report["why"]
