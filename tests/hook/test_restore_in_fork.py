"""A forked child may restore: it returns, whatever a thread of the parent held at the fork."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import watchstep

torch = pytest.importorskip("torch")


def test_a_restore_in_a_forked_child_returns_although_the_stream_was_locked(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    watch = watchstep.init(
        run="fork", directory=tmp_path, mode="offline", checkpoints=tmp_path / "ckpt"
    )
    watch.log({"train/loss": 1.0})
    watch.save({"model": model}, step=1)
    watch.log({"train/loss": 1.0})
    keeper = watch.keeper
    assert keeper is not None
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with watch._stream.lock, keeper._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        restored = watch.restore({"model": model})
        saved = keeper.save({"model": model}, step=2)
        os._exit(0 if restored.step == 1 and saved is not None else 1)
    done.set()
    thread.join()
    # The suite's own time limit ends a child that hangs.
    _, status = os.waitpid(child, 0)
    watch.finish()

    assert os.waitstatus_to_exitcode(status) == 0
