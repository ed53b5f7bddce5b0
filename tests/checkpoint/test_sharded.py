"""Checkpoints of state that is sharded over the processes of a training (FSDP2)."""

from __future__ import annotations

import json
import pickle
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from guard.ranks import run_ranks
from watchstep.checkpoint import CheckpointKeeper, verify
from watchstep.checkpoint.record import manifest_path
from watchstep.errors import CheckpointError

pytestmark = pytest.mark.long

SHARDED = """
    import random
    from pathlib import Path
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from watchstep.checkpoint import CheckpointKeeper
    from watchstep.errors import CheckpointError

    def make(seed):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.Linear(7, 2))
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01 * (seed + 1))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
        return {"model": model, "optimizer": optimizer, "schedule": schedule}

    def train(state, steps=3):
        for _ in range(steps):
            state["model"](torch.ones(3, 4)).square().sum().backward()
            state["optimizer"].step()
            state["optimizer"].zero_grad()
            state["schedule"].step()

    def whole(state):
        tensors = [*state["model"].state_dict().values()]
        for moments in state["optimizer"].state.values():
            tensors += [moments[name] for name in sorted(moments)]
        return bit_hash([t.full_tensor() if hasattr(t, "full_tensor") else t
                         for t in tensors])
"""


def in_ranks(folder: Path, world: int, program: str) -> list[tuple[int, dict[str, Any]]]:
    return run_ranks(folder, world, textwrap.dedent(SHARDED) + textwrap.dedent(program))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the checkpoints of three processes at steps 3 and 6, and the last's hash."""
    folder = tmp_path_factory.mktemp("saved")
    program = """
        state = make(0)
        keeper = CheckpointKeeper("ckpt")
        train(state)
        keeper.save(state, step=3, update=1)
        train(state)
        torch.manual_seed(100 + rank)
        random.seed(100 + rank)
        checkpoint = keeper.save(state, step=6, update=2)
        after = (float(torch.rand(())), random.random())
        report(hash=whole(state), sha256=checkpoint.sha256, after=after, listed=len(keeper.list()),
             seen=Path(checkpoint.path).is_dir())
        dist.destroy_process_group()
    """

    ranks = in_ranks(folder, 3, program)

    assert [code for code, _ in ranks] == [0, 0, 0]
    reports = [report for _, report in ranks]
    assert len({report["hash"] for report in reports}) == 1
    assert len({report["sha256"] for report in reports}) == 1
    assert all(report["seen"] and report["listed"] == 2 for report in reports)
    (folder / "after").write_text(json.dumps([report["after"] for report in reports]))
    return folder, reports[0]["hash"]


@pytest.fixture
def copied(saved: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    shutil.copytree(saved[0] / "ckpt", tmp_path / "ckpt")
    return tmp_path, saved[1]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_sharded_state_comes_back_bit_for_bit_onto_any_number_of_processes(
    world: int, copied: tuple[Path, str]
) -> None:
    folder, expected = copied
    program = """
        state = make(5)
        checkpoint = CheckpointKeeper("ckpt").restore(state)
        rate = state["optimizer"].param_groups[0]["lr"]
        before = whole(state)
        train(state, 1)
        report(hash=before, step=checkpoint.step, rate=rate, last=state["schedule"].last_epoch,
             trains=whole(state) != before)
        dist.destroy_process_group()
    """

    ranks = in_ranks(folder, world, program)

    rate = 0.01 * 0.1 * 0.1
    for code, report in ranks:
        assert code == 0
        assert report["rate"] == pytest.approx(rate)
        assert report == {
            "hash": expected, "step": 6, "rate": report["rate"], "last": 7, "trains": True,
        }  # fmt: skip


def test_each_process_gets_its_own_random_generators_back(saved: tuple[Path, str]) -> None:
    folder, _ = saved
    program = """
        state = make(5)
        CheckpointKeeper("ckpt").restore(state, rng=True)
        report(after=(float(torch.rand(())), random.random()))
        dist.destroy_process_group()
    """

    ranks = in_ranks(folder, 3, program)

    assert [report["after"] for _, report in ranks] == json.loads((folder / "after").read_text())


def test_one_bad_shard_refuses_the_save_in_every_process_and_is_named(tmp_path: Path) -> None:
    program = """
        state = make(0)
        train(state)
        keeper = CheckpointKeeper("ckpt")
        keeper.save(state, step=1)
        if rank == 1:
            with torch.no_grad():
                state["model"][1].weight.to_local()[0, 0] = math.inf
        checkpoint = keeper.save(state, step=2)
        report(finite=checkpoint.finite, bad=checkpoint.bad_tensor, count=checkpoint.nonfinite,
             refused=keeper.refused, steps=[c.step for c in keeper.list()])
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, 2, program)

    report = {
        "finite": False, "bad": "rank 1: model.1.weight", "count": 1, "refused": 1, "steps": [1],
    }  # fmt: skip
    assert ranks == [(0, report), (0, report)]


def test_what_one_process_cannot_keep_fails_in_all_of_them(tmp_path: Path) -> None:
    program = """
        state = make(0)
        keeper = CheckpointKeeper("ckpt")
        if rank == 1:
            state["extra"] = object()
        else:
            state["extra"] = 1
        try:
            keeper.save(state, step=1)
            reason = ""
        except CheckpointError as error:
            reason = str(error)
        report(reason=reason, left=sorted(path.name for path in Path("ckpt").iterdir()))
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, 2, program)

    reason = "rank 1: extra: object has no state_dict() and is not plain"
    assert ranks == [(0, {"reason": reason, "left": []})] * 2


def test_the_pin_is_kept_by_retention_and_restored_after_an_alert(tmp_path: Path) -> None:
    program = """
        state = make(0)
        keeper = CheckpointKeeper("ckpt", keep=1)
        for step in range(1, 5):
            train(state, 1)
            keeper.save(state, step=step, update=step)
            if step == 2:
                expected = whole(state)
            keeper.observe(healthy=step < 4, update=step + 1)
            if step == 2:
                keeper._pending.clear()
            dist.barrier()
        pinned = keeper.pinned
        checkpoint = keeper.restore(state)
        report(pinned=pinned.step, step=checkpoint.step, same=whole(state) == expected,
             left=sorted({c.step for c in keeper.list()}))
        dist.destroy_process_group()
    """

    ranks = in_ranks(tmp_path, 2, program)

    assert [report["step"] for _, report in ranks] == [3, 3]
    assert ranks[0][1]["pinned"] == 3
    assert ranks[0][1]["left"] == [3, 4]


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "metadata", "more"])
def test_damage_to_any_file_is_found(damage: str, copied: tuple[Path, str]) -> None:
    newest = max((copied[0] / "ckpt").glob("*.dcp"))
    shard = newest / (".metadata" if damage == "metadata" else "__1_0.distcp")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= damage in {"flip", "metadata"}
    shard.write_bytes(content[:-1] if damage == "truncate" else content + b"!" * (damage == "more"))
    if damage == "missing":
        shard.unlink()

    with pytest.raises(CheckpointError, match=shard.name):
        verify(newest)


def test_a_damaged_shard_is_set_aside_and_the_one_before_restored(
    copied: tuple[Path, str],
) -> None:
    folder, _ = copied
    shard = max((folder / "ckpt").glob("*.dcp")) / "__1_0.distcp"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    program = """
        state = make(5)
        keeper = CheckpointKeeper("ckpt")
        checkpoint = keeper.restore(state)
        dist.barrier()
        report(step=checkpoint.step, aside=len(list(Path("ckpt/quarantine").glob("*.dcp"))))
        dist.destroy_process_group()
    """

    ranks = in_ranks(folder, 2, program)

    assert ranks == [(0, {"step": 3, "aside": 1})] * 2


def test_targets_that_do_not_fit_in_one_process_change_none(copied: tuple[Path, str]) -> None:
    folder, _ = copied
    program = """
        state = make(5)
        if rank == 1:
            state["more"] = {}
        before = whole(state)
        try:
            CheckpointKeeper("ckpt").restore(state)
            reason = ""
        except CheckpointError as error:
            reason = str(error)
        report(reason=reason, same=whole(state) == before)
        dist.destroy_process_group()
    """

    ranks = in_ranks(folder, 2, program)

    assert [report["same"] for _, report in ranks] == [True, True]
    assert all("rank 1: more: not in the checkpoint" in report["reason"] for _, report in ranks)


def test_a_sharded_checkpoint_is_verified_and_read_whole_without_any_process_group(
    copied: tuple[Path, str],
) -> None:
    folder, expected = copied
    newest = max((folder / "ckpt").glob("*.dcp"))

    checkpoint = verify(newest)
    model = torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.Linear(7, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    restored = CheckpointKeeper(folder / "ckpt").restore({"model": model, "optimizer": optimizer})

    assert checkpoint.step == restored.step == 6
    assert verify(folder / "ckpt").step == 6
    from watchstep.guard import bit_hash

    tensors = [*model.state_dict().values()]
    for moments in optimizer.state.values():
        tensors += [moments[name] for name in sorted(moments)]
    assert bit_hash(tensors) == expected


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_metadata_that_would_execute_something_is_refused_and_does_not(
    copied: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchstep.checkpoint.shards import read_shards

    folder, _ = copied
    monkeypatch.chdir(folder)
    newest = max((folder / "ckpt").glob("*.dcp"))
    (newest / ".metadata").write_bytes(pickle.dumps(_Evil()))

    with pytest.raises(CheckpointError, match="has no place in metadata"):
        read_shards(newest)

    assert not (folder / "executed").exists()


def test_the_command_line_lists_verifies_and_copies_a_sharded_checkpoint(
    copied: tuple[Path, str], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from watchstep.checkpoint.commands import app

    folder, _ = copied
    runner = CliRunner()

    listed = runner.invoke(app, ["list", str(folder / "ckpt"), "--json"])
    restored = runner.invoke(
        app, ["restore", str(folder / "ckpt"), "--to", str(tmp_path / "out"), "--json"]
    )

    assert [row["step"] for row in json.loads(listed.stdout)["checkpoints"]] == [6, 3]
    report = json.loads(restored.stdout)
    assert report["step"] == 6
    assert manifest_path(Path(report["path"])).exists()
    assert verify(report["path"]).step == 6


def test_a_process_that_is_killed_in_mid_save_costs_no_earlier_checkpoint(tmp_path: Path) -> None:
    program = """
        import signal, threading
        state = make(0)
        train(state)
        keeper = CheckpointKeeper("ckpt", keep=2)
        chance = random.Random(int(Path("seed").read_text()))
        victim, delay = chance.randrange(world), chance.uniform(0.0, 0.1)
        returned = os.open(f"returned-{rank}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        report()
        try:
            for step in range(1, 1_000_000):
                keeper.save(state, step=step, update=step)
                os.write(returned, f"{step} ".encode())
                if step == 1 and rank == victim:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        except CheckpointError:
            os._exit(0)
    """
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "seed").write_text(str(seed))
        ranks = in_ranks(folder, 2, program)

        assert sorted(code for code, _ in ranks) == [-9, 0]
        last = max(int((folder / f"returned-{rank}").read_text().split()[-1]) for rank in range(2))
        checkpoints = CheckpointKeeper(folder / "ckpt").list()
        assert checkpoints[0].step >= last
        assert all(verify(checkpoint.path).finite for checkpoint in checkpoints)
        # What the kill left unfinished is swept by whoever opens the folder next.
        assert not list((folder / "ckpt").glob(".saving-*"))
