"""What a training loop must never notice of a watch: FACTS G."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import watchstep
from hook.kit_hook import updates_of
from watchstep.hook import process, vitals
from watchstep.sender.session import Reader, sessions, take_over


def spooled(root: Path) -> list[Mapping[str, Any]]:
    """Every update that dead sessions left, oldest session first."""
    updates: list[Mapping[str, Any]] = []
    for path in sessions(root):
        folder = take_over(path)
        assert folder is not None
        reader = Reader(folder)
        records = reader.read(1, None, 10_000)
        updates += [json.loads(reader.unpacker.to_json(record.framed)) for record in records]
        folder.release()
    return updates


def trainer(folder: Path, script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", "import watchstep\n" + textwrap.dedent(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_where_warnings_are_errors_none_of_ours_reaches_the_loop(tmp_path: Path) -> None:
    done = trainer(
        tmp_path,
        """
        watch = watchstep.init(run="strict", directory="/proc/none", nonsense=1)
        watch = watchstep.init(run="strict", directory="/proc/none", rules="none-such")
        watch.log({"note": "low", "train/loss": object()})
        watch.log(5)
        watch.finish()
        print(sorted(watch.losses()))
        """,
        "-W",
        "error",
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == str(
        ["reading refused: metrics", "reading refused: value", "spool_error"]
    )


def test_a_warning_points_at_the_line_that_called(make: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="leaves out") as caught:
        make().log({"train/loss": "low"})

    assert [Path(warning.filename).name for warning in caught] == ["test_guest.py"]


def test_a_misspelt_argument_is_named_with_the_right_one(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'on_critcal'; did you mean 'on_critical'"):
        watchstep.init(run="typo", on_critcal="halt")


@pytest.mark.parametrize(
    "wrong", [{"keep": 0}, {"good_after": "x"}, {"exit_s": -1}, {"rollback_lr_factor": 0.0}]
)
def test_a_number_that_makes_no_sense_is_told_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(watchstep.WatchstepError, match=next(iter(wrong))):
        watchstep.init(run="wrong", strict_init=True, **wrong)


def test_a_copied_or_pickled_watch_says_nothing(make: Any, tmp_path: Path) -> None:
    watch = make(run="original")

    copies = [copy.deepcopy(watch), pickle.loads(pickle.dumps(watch))]
    for copied in copies:
        copied.log({"train/loss": float("nan")})
        copied.finish()
    watch.log({"train/loss": 0.5})

    assert [copied.run for copied in copies] == ["original", "original"]
    assert watch._stream.seq == 1


def test_log_called_out_of_log_itself_is_refused_and_counted(make: Any) -> None:
    watch = make()

    class Lazy:
        def __float__(self) -> float:
            watch.log({"train/loss": 1.0})
            return 2.0

    with pytest.warns(UserWarning, match="out of log"):
        watch.log({"train/loss": Lazy()})

    assert watch._stream.seq == 1
    assert watch.errors == {"RuntimeError": 1}


def test_the_hook_tells_how_it_is_doing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "EVERY_S", 0.0)
    watch = make()
    updates = updates_of(watch)

    with pytest.warns(UserWarning, match="leaves out"):
        watch.log({"train/loss": 0.5, "note": "low"})
    watch.log({"train/loss": 0.5, "note": "low"})

    readings = updates[-1].readings
    assert readings["hook/lost/reading_refused_value"] == 2.0
    assert readings["hook/errors"] == 0.0
    assert 0.0 < readings["hook/log_p50_s"] <= readings["hook/log_p99_s"] < 1.0
    assert readings["hook/queue_updates"] == readings["hook/internal_errors"] == 0.0
    assert "hook/spool_bytes" in readings


def test_an_error_inside_a_guard_is_counted_with_the_others(make: Any) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = make()
    watch.guard(optimizer, name="policy")

    def broken(*_: Any) -> None:
        raise OSError("not ours to raise")

    watch._stream.judgement.optimizer_step = broken
    model(torch.ones(1, 2)).sum().backward()
    with pytest.warns(UserWarning, match="guard of policy goes on after OSError"):
        optimizer.step()

    assert watch.errors == {"guard policy": 1}


def test_a_run_that_ends_tells_what_was_lost(tmp_path: Path) -> None:
    watch = watchstep.init(run="ends", directory=tmp_path)
    with pytest.warns(UserWarning, match="leaves out"):
        watch.log({"note": "low"})
    watch.finish()

    ended = spooled(tmp_path)[-1]["event"]
    assert ended["kind"] == "finished"
    assert ended["hook"]["hook/lost/reading_refused_value"] == 1.0


def test_the_hook_says_nothing_of_itself_for_a_minute(make: Any) -> None:
    watch = make()
    updates = updates_of(watch)

    watch.log({"train/loss": 0.5})

    assert list(updates[0].readings) == ["train/loss"]


class OneNumber:
    """A tensor on a device that this machine does not have."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def detach(self) -> OneNumber:
        return self

    def numel(self) -> int:
        return 1

    def __float__(self) -> float:
        return 0.25


def test_numbers_on_an_accelerator_other_than_cuda_are_read_at_once(make: Any) -> None:
    watch = make()
    updates = updates_of(watch)
    watch.log({"train/loss": OneNumber("xpu")})

    assert updates[0].readings == {"train/loss": 0.25}
    assert watch.errors == {}


def test_an_event_behind_device_readings_keeps_its_place(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = False

    class Slow:
        def __init__(self, tensors: Mapping[str, Any]) -> None:
            self.names = list(tensors)

        def ready(self) -> bool:
            return arrived

        def wait(self) -> dict[str, float]:
            return dict.fromkeys(self.names, 1.0)

    monkeypatch.setattr("watchstep.hook.readings.DeviceReadings", Slow)
    watch = make()
    updates = updates_of(watch)
    watch.log({"train/loss": OneNumber("cuda")}, step=1, event={"kind": "log", "text": "the first"})
    held_back = len(updates)
    arrived = True
    watch.log({"train/loss": OneNumber("cuda")}, step=2)

    assert held_back == 0
    assert [(update.step, (update.event or {}).get("text")) for update in updates] == [
        (1, "the first"),
        (2, None),
    ]


@pytest.mark.parametrize(
    ("mounted", "kind"),
    [
        ("/ /tmp/there ext4", None),
        ("/ext /there nfs4", "nfs4"),
        ("/ /there fuse.sshfs", "fuse.sshfs"),
        ("/ /there lustre", "lustre"),
    ],
)
def test_a_spool_on_a_network_file_system_is_noticed(
    mounted: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, point, kind_there = mounted.split()
    table = "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
    table += f"2 1 0:2 {root} {point} rw,relatime shared:1 - {kind_there} server:/x rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: table)

    assert process.network_file_system(Path("/there/spool")) == kind
    assert process.network_file_system(Path("/thereabouts")) is None


def test_a_handler_that_was_there_hears_the_sigterm_and_decides(tmp_path: Path) -> None:
    done = trainer(
        tmp_path,
        """
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: print("heard"))
        mine = signal.getsignal(signal.SIGTERM)
        watch = watchstep.init(run="asked", directory="spool", catch_sigterm=True)
        os.kill(os.getpid(), signal.SIGTERM)
        watch.log({"train/loss": 0.5})
        print("goes on", signal.getsignal(signal.SIGTERM) is mine)
        """,
    )

    assert (done.returncode, done.stdout) == (0, "heard\ngoes on True\n")


@pytest.mark.parametrize("rank", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_only_rank_0_reports_unless_every_process_is_a_run_of_its_own(
    rank: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rank, "3")

    assert make()._stream.outbound is None
    assert make(run="seed-3", report=True)._stream.outbound is not None


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_data_loader_workers_of_every_kind_leave_the_watch_alone(way: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        textwrap.dedent(
            f"""
            import torch, watchstep
            from torch.utils.data import DataLoader, Dataset

            class Rows(Dataset):
                def __len__(self):
                    return 8
                def __getitem__(self, index):
                    return torch.ones(4)

            if __name__ == "__main__":
                watch = watchstep.init(run="loads", directory="spool")
                for batch in DataLoader(Rows(), num_workers=1, multiprocessing_context="{way}"):
                    watch.log({{"train/loss": float(batch.mean())}})
                watch.finish()
                assert watch.errors == {{}}, watch.errors
            """
        )
    )

    done = subprocess.run(
        [sys.executable, "train.py"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    # On a busy machine Python's own tracker of semaphores may complain of workers that were quick.
    text = re.sub(r"\S+resource_tracker\.py:.*\n.*\n", "", done.stderr)
    assert text == ""
    updates = spooled(tmp_path / "spool")
    assert [update["seq"] for update in updates] == list(range(1, 10))
    assert updates[-1]["event"]["kind"] == "finished"


def test_an_interrupt_passes_and_is_reported(tmp_path: Path) -> None:
    done = trainer(
        tmp_path,
        """
        import os, signal
        watch = watchstep.init(run="stopped", directory="spool")
        watch.log({"train/loss": 0.5})
        os.kill(os.getpid(), signal.SIGINT)
        """,
    )

    assert done.returncode == -signal.SIGINT
    assert spooled(tmp_path / "spool")[-1]["event"]["kind"] == "halted"


def test_default_dtype_threads_flags_and_hooks_of_the_process_stay(make: Any) -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.benchmark,
            torch.are_deterministic_algorithms_enabled(),
            sys.excepthook,
            sys.flags,
            os.umask(os.umask(0o22)),
            [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGUSR1)],
        )

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    before = state()
    watch = make()
    watch.guard(optimizer)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    watch.log({"train/loss": torch.tensor(0.5)})
    during = state()
    watch.finish()

    assert before == during == state()


def test_init_waits_for_nothing_and_exit_keeps_its_budget_before_a_black_hole(
    tmp_path: Path,
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hole:
        begun = time.monotonic()
        watch = watchstep.init(
            run="hole",
            url=f"http://127.0.0.1:{hole.getsockname()[1]}",
            directory=tmp_path,
            exit_s=0.2,
        )
        began = time.monotonic() - begun
        for _ in range(100):
            watch.log({"train/loss": 0.5})
        ending = time.monotonic()
        watch.finish()

    # Far above what a machine under load needs, far below the 5 s of one request.
    assert began < 1.0
    assert time.monotonic() - ending < 1.5
