"""Files that are torn, foreign, hostile or no files at all: one clear line, or what is left."""

from __future__ import annotations

import gzip
import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers import NothingReadableError, open_logs, opening

LOGS = Path(__file__).parents[1] / "logs"


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def no_file(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_dangling_link, a_device, no_file])
def test_what_cannot_be_read_is_said_in_one_line(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    make(path)

    with pytest.raises(LogUnreadableError) as refused:
        open_log(path)

    assert not isinstance(refused.value, NothingReadableError)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("step,loss\n1,2\n")
    path.chmod(0)

    with pytest.raises(LogUnreadableError, match="Permission denied"):
        open_log(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n  \n",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
        b"\0" * 5000,
        os.urandom(50_000).replace(b"\x1f\x8b", b"\0\0"),
        b"The quick brown fox.\nNothing was trained.\n",
        b'{"name": "a config", "layers": 3}',
        b"{}\n",
        b"[]",
        b"step,loss\n",
        b"name,colour\nfox,brown\n",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"step=1 loss=2\n" * 100, mtime=0)[:12],
    ],
)
def test_a_file_without_a_log_in_it_is_said_to_hold_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(NothingReadableError) as refused:
        for _ in open_log(path).updates:
            pass

    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(
    "source",
    [
        "hf_short/trainer_state.json",
        "noeps_constreward/updates.jsonl",
        "noeps_constreward/progress.csv",
        "gail_ppo/progress.csv",
        "bloom176b_spike/log.txt",
        "zoo_monitor/10.monitor.csv",
        "iss_timemoe71/log.txt",
        "nanogpt/main.log.gz",
        "wandb_offline/run-zafa5smy.wandb.gz",
    ],
)
def test_a_log_torn_anywhere_gives_a_beginning_of_the_whole(source: str, tmp_path: Path) -> None:
    whole = (LOGS / source).read_bytes()
    expected = [(u.step, repr(u.readings)) for u in open_log(LOGS / source).updates]
    torn = tmp_path / Path(source).name

    for cut in range(1, 10):
        torn.write_bytes(whole[: len(whole) * cut // 10])
        try:
            updates = [(u.step, repr(u.readings)) for u in open_log(torn).updates]
        except LogUnreadableError:
            updates = []
        # The last row may have lost its last readings, but none of them is wrong.
        assert updates[:-1] == expected[: max(len(updates) - 1, 0)]


def test_a_torn_last_line_is_marked_and_its_cut_number_left_out(tmp_path: Path) -> None:
    table = tmp_path / "progress.csv"
    table.write_text("step,loss,lr\n1,0.25,0.001\n2,0.2")
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"step": 1, "loss": 0.25}\n{"step": 2, "loss": 0.2')
    state = tmp_path / "trainer_state.json"
    state.write_text('{"log_history": [{"step": 1, "loss": 0.25}, {"step": 2, "lo')

    for path in (table, lines, state):
        log = open_log(path)
        losses = [update.readings.get("loss") for update in log.updates]
        assert losses[0] == 0.25
        assert losses[1:] in ([], [None])
        assert log.partial, path
        assert log.notes


def test_packed_data_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    rows = "".join(f"step={number} loss={number / 7}\n" for number in range(20_000))
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(rows.encode())[:-2000])

    log = open_log(path)
    steps = [update.step for update in log.updates]

    assert steps == list(range(len(steps)))
    assert len(steps) > 1000
    assert log.partial


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("läuft\nstep=1 loss=0.5\nstep=2 loss=nan\n", encoding=encoding)

    log = open_log(path)

    assert [update.step for update in log.updates] == [1, 2]
    assert bool(log.notes) == (encoding == "latin-1")


def test_hostile_json_lines_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    hostile = [
        '{"step": 1, "loss": 1}',
        "[" * 100_000,
        '{"step": 2, "loss": ' + "9" * 5000 + "}",
        '{"a": ' * 5000 + "1" + "}" * 5000,
        '{"step": 3, "loss": 1e999}',
        "null",
        '{"step": 1e300, "loss": 4}',
        '{"step": NaN, "loss": 5}',
        '{"step": 9, "loss": 6, "\\ud800": 7, "": 8, "' + "x" * 1000 + '": 9}',
    ]
    path.write_text("\n".join(hostile) + "\n")

    log = open_log(path)
    updates = list(log.updates)

    losses = [update.readings["loss"] for update in updates if "loss" in update.readings]
    assert losses == [1, float("inf"), float("inf"), 4, 5, 6]
    assert all(len(name) <= 128 and name.isascii() for name in log.names)
    assert log.partial


def test_a_table_with_the_wrong_cells_keeps_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text(
        'step,loss,lr\n1,0.5,0.1\n2,oops,0.1\n3,0.5,0.1,9,9\nstep,loss,lr\n4,,\n5,"0.5",nan\n'
    )

    log = open_log(path)

    assert [(u.step, sorted(u.readings)) for u in log.updates] == [
        (1, ["loss", "lr"]),
        (2, ["lr"]),
        (3, ["loss", "lr"]),
        (4, []),
        (5, ["loss", "lr"]),
    ]


@pytest.mark.parametrize("shape", ["jsonl", "csv", "console", "state"])
def test_memory_stays_flat_as_a_file_grows(shape: str, tmp_path: Path) -> None:
    def written(count: int) -> Path:
        path = tmp_path / f"{count}.log"
        rows = ({"step": number, "loss": 0.5, "text": "x" * 200} for number in range(count))
        if shape == "csv":
            lines = [f"{row['step']},0.5,{row['text']}" for row in rows]
            path.write_text("step,loss,text\n" + "\n".join(lines) + "\n")
        elif shape == "console":
            path.write_text("".join(f"step={row['step']} loss=0.5 {row['text']}\n" for row in rows))
        elif shape == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps({"log_history": list(rows)}, indent=1))
        return path

    def peak_bytes(path: Path) -> int:
        tracemalloc.start()
        count = sum(1 for _ in open_log(path).updates)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == int(path.stem)
        return peak

    assert peak_bytes(written(8_000)) < 1.5 * peak_bytes(written(2_000)) + 200_000


def test_one_bad_path_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    bad: list[Path] = []
    empty = tmp_path / "empty"
    empty.mkdir()
    paths = [tmp_path / "gone", LOGS / "gail_ppo", empty, LOGS / "hf_short"]

    runs = [log.run for log in open_logs(paths, unreadable=lambda path, _: bad.append(path))]

    assert runs == ["gail_ppo", "hf_short"]
    assert bad == [tmp_path / "gone", empty]


def test_without_a_listener_a_bad_path_is_raised(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError, match="no training log"):
        list(open_logs([tmp_path]))


def test_a_packed_log_is_read_up_to_a_limit_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_UNPACKED_BYTES", 1 << 20)
    rows = "".join(f"step {n} loss: {1 / n:.3f}\n" for n in range(1, 2_001))
    path = tmp_path / "train.log.gz"
    path.write_bytes(gzip.compress((rows + "\n" * 40_000_000).encode()))

    log = open_log(path)
    updates = list(log.updates)

    assert len(updates) == 2_000
    assert log.partial
    assert any("it unpacks to more than" in note for note in log.notes)


def test_a_packed_log_has_a_limit_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train.log.gz"
    path.write_bytes(
        gzip.compress("".join(f"step {n} loss: {1 / n:.3f}\n" for n in range(1, 90_000)).encode())
    )
    ticks = iter(range(0, 1_000_000, 40))
    monkeypatch.setattr(opening.time, "monotonic", lambda: float(next(ticks)))
    log = open_log(path)

    updates = list(log.updates)

    assert 0 < len(updates) < 89_999
    assert any("s are over" in note for note in log.notes)
