"""What one process of a distributed training wants reaches the others, without a vote each step."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from guard.ranks import run_ranks
from watchstep.postmortem.readers import open_logs

pytest.importorskip("torch")

TRAINING = """
    import time
    from torch.nn.parallel import DistributedDataParallel
    from watchstep.hook import other_ranks

    other_ranks._LOOK_S = 0.05
    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(step):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        optimizer.step()
        time.sleep(0.002)
        return loss.item()
"""

ENDS = {
    "a command": "watch._on_command({'kind': 'halt', 'id': 'c', 'reason': 'please', 'attempt': 1})",
    "a rule": "readings['train/loss'] = math.nan",
    "a rule of the service": (
        "watch._service_rules.receive({'fingerprint': 'f', 'files': [{'source': 'ours', 'text':"
        " 'groups: [{name: g, rules: [{alert: Small, expr: train/loss < 1e9, action: halt,"
        " labels: {severity: critical}}]}]'}]})"
    ),
}


@pytest.mark.parametrize("logs", ["rank == 0", "True"], ids=["rank 0 logs", "all log"])
@pytest.mark.parametrize("end", ENDS)
def test_a_halt_reaches_every_guarded_rank_in_the_same_step(
    end: str, logs: str, tmp_path: Path
) -> None:
    program = f"""{TRAINING}
    watch = watching(on_critical="halt")
    watch.guard(optimizer)
    try:
        for step in range(5000):
            readings = {{"train/loss": train(step)}}
            if rank == 0 and step == 20:
                {ENDS[end]}
            if {logs}:
                watch.log(readings, step=step)
    except TrainingHalted as halted:
        report(step=step, why=str(halted))
        raise
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [76, 76]
    assert ranks[0][1]["step"] == ranks[1][1]["step"] >= 20
    assert all("rank 0: " in report["why"] for _, report in ranks)


def test_a_halt_reaches_ranks_that_only_log(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    watch = watching(on_critical="halt")
    try:
        for step in range(5000):
            loss = train(step)
            watch.log({{"train/loss": math.nan if (rank, step) == (1, 9) else loss}}, step=step)
    except TrainingHalted as halted:
        report(step=step, why=str(halted))
        raise
    """

    ranks = run_ranks(tmp_path, 3, program)

    assert [code for code, _ in ranks] == [76] * 3
    assert len({report["step"] for _, report in ranks}) == 1
    assert all("LossNonFinite: rank 1: " in report["why"] for _, report in ranks)


def test_a_rank_with_two_optimizers_leaves_nobody_waiting(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    own = torch.nn.Linear(2, 1)
    local = torch.optim.SGD(own.parameters(), lr=0.1)
    watch = watching(on_critical="halt")
    watch.guard(optimizer)
    watch.guard(local)
    try:
        for step in range(5000):
            loss = train(step)
            own(torch.ones(1, 2)).sum().backward()
            local.step()
            watch.log({{"train/loss": math.nan if (rank, step) == (1, 9) else loss}}, step=step)
    except TrainingHalted as halted:
        report(step=step)
        raise
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [76, 76]
    assert len({report["step"] for _, report in ranks}) == 1


def test_a_rank_that_nobody_watches_is_not_waited_for(tmp_path: Path) -> None:
    program = """
    watch = watching(on_critical="halt") if rank == 0 else None
    try:
        if watch is not None:
            watch.log({"train/loss": math.nan})
        report(halted=False)
    except TrainingHalted:
        report(halted=True)
    os._exit(0)
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [report["halted"] for _, report in ranks] == [True, False]


def test_a_rollback_that_one_rank_asks_for_is_made_by_all(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    watch = watching(on_critical="rollback", checkpoints="ckpt")
    watch.guard(optimizer)
    state = {{"model": model.module, "optimizer": optimizer}}
    rolled = None
    for step in range(400):
        loss = train(step)
        watch.log({{"train/loss": math.nan if (rank, step) == (0, 9) else loss}}, step=step)
        if step < 9:
            watch.save(state, step=step)
        if rolled is None and watch._actions.rollbacks:
            rolled = step
    report(rolled=rolled, rollbacks=watch._actions.rollbacks, weights=bit_hash(model),
         errors=watch.errors)
    watch.finish()
    dist.barrier()
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [0, 0]
    assert ranks[0][1] == ranks[1][1]
    assert (ranks[0][1]["rollbacks"], ranks[0][1]["errors"]) == (1, {})


def test_a_sigterm_to_one_rank_ends_all_as_preempted(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    watch = watching(mode="offline")
    watch.guard(optimizer)
    report(ready=True)
    for step in range(5000):
        watch.log({{"train/loss": train(step)}}, step=step)
        if (rank, step) == (1, 50):
            os.kill(os.getpid(), 15)
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [-signal.SIGTERM] * 2
    events = [
        dict(update.event)
        for log in open_logs([tmp_path / "spool-0"])
        for update in log.updates
        if update.event
    ]
    assert events[-1]["kind"] == "preempted"
    assert (events[-1]["signal"], events[-1]["rank"]) == ("SIGTERM", 1)


def test_a_handler_of_the_user_s_is_not_overruled_by_the_signal_of_another_rank(
    tmp_path: Path,
) -> None:
    program = f"""{TRAINING}
    import signal
    signal.signal(signal.SIGTERM, lambda *_: None)
    watch = watching(mode="offline")
    watch.guard(optimizer)
    for step in range(100):
        watch.log({{"train/loss": train(step)}}, step=step)
        if (rank, step) == (1, 20):
            os.kill(os.getpid(), 15)
    report(step=step)
    dist.barrier()
    os._exit(0)
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert ranks == [(0, {"step": 99})] * 2


def test_the_slowest_rank_is_named_with_its_ratio_to_the_others(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    other_ranks._PACE_S = 0.2
    watch = watching()
    watch.guard(optimizer)
    for step in range(150):
        if rank == 2:
            time.sleep(0.02)
        watch.log({{"train/loss": train(step)}}, step=step)
    report(errors=watch.errors)
    watch.finish()
    dist.barrier()
    os._exit(0)
    """

    ranks = run_ranks(tmp_path, 3, program)

    assert all(report["errors"] == {} for _, report in ranks)
    readings = [
        update.readings
        for log in open_logs([tmp_path / "spool-0"])
        for update in log.updates
        if "ranks/slowest" in update.readings
    ]
    assert readings
    assert readings[-1]["ranks/slowest"] == 2.0
    assert readings[-1]["ranks/slowest_ratio"] > 2.0


def test_a_hang_names_the_rank_that_the_others_wait_for(tmp_path: Path) -> None:
    program = f"""{TRAINING}
    from watchstep.hook import progress, stacks, watchdog

    progress.LEAST_S, progress.MEDIANS, progress.LONGEST = 1.0, 1.0, 1.0
    watchdog._LOOK_S, stacks._APART_S = 0.05, 0.02

    def reads_a_disk_that_never_answers():
        while True:
            time.sleep(1000)

    def tell(event):
        store = dist.distributed_c10d._get_default_store().clone()
        report(own_line=event["own_line"], stacks=event["stacks"])
        if rank == 0:
            store.set("told", "")
        store.wait(["told"])
        os._exit(0)

    watch = watching()
    watch.guard(optimizer)
    watch._watchdog._tell = tell
    for step in range(150):
        if rank == 1 and step == 40:
            reads_a_disk_that_never_answers()
        watch.log({{"train/loss": train(step)}}, step=step)
    """

    ranks = run_ranks(tmp_path, 3, program)

    report = ranks[0][1]
    assert "rank 1 is at" in report["own_line"]
    assert "reads_a_disk_that_never_answers" in report["own_line"]
    assert "rank 2" not in report["own_line"]
    assert report["stacks"].startswith("rank 1 is at")
