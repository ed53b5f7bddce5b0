"""Logs as they are sent around: packed, in folders of MLflow, cut off by a crash."""

from __future__ import annotations

import bz2
import io
import lzma
import math
import tarfile
import zipfile
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.errors import LogUnreadableError
from watchstep.postmortem.examination import examine
from watchstep.postmortem.readers import NothingReadableError, open_logs

CSV = "step,loss,grad_norm\n" + "".join(f"{at},{2 - at / 100},0.5\n" for at in range(1, 40))
BROKEN = CSV + "40,nan,nan\n41,nan,nan\n42,nan,nan\n"


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(("pack", "ending"), [(lzma.compress, ".xz"), (bz2.compress, ".bz2")])
def test_a_compressed_log_is_named_without_its_compression(
    pack: object, ending: str, tmp_path: Path
) -> None:
    assert callable(pack)
    path = tmp_path / f"ppo-7.csv{ending}"
    path.write_bytes(pack(BROKEN.encode()))

    log = open_log(path)

    assert (log.run, log.format) == ("ppo-7", "csv")
    assert len(list(log.updates)) == 42


def test_what_was_unpacked_before_the_damage_is_kept_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "ppo-7.csv.xz"
    path.write_bytes(lzma.compress(BROKEN.encode())[:-40])

    log = open_log(path)
    updates = list(log.updates)

    assert len(updates) >= 39
    assert log.partial


def test_a_zip_of_many_runs_is_a_fleet(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "runs.zip", {"one/metrics.csv": CSV, "two/metrics.csv": BROKEN, "notes.md": "#"}
    )

    runs = {log.run: (str(log.path), examine(log).verdict) for log in open_logs([path])}

    assert runs == {
        "one": (f"{path}/one/metrics.csv", "healthy"),
        "two": (f"{path}/two/metrics.csv", "diverged"),
    }


def test_a_zip_that_lies_among_logs_is_read_but_a_saved_model_is_not(tmp_path: Path) -> None:
    zipped(tmp_path / "sent.zip", {"metrics.csv": CSV})
    zipped(tmp_path / "model.zip", {"policy.pth": "", "progress.csv": CSV})

    assert [log.run for log in open_logs([tmp_path])] == ["sent"]


def test_a_tar_names_no_file_outside_of_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("../escaped.csv", "/escaped.csv", "in/metrics.csv"):
            member = tarfile.TarInfo(name)
            member.size = len(CSV)
            archive.addfile(member, io.BytesIO(CSV.encode()))

    assert [log.run for log in open_logs([path])] == ["in"]
    assert not (tmp_path.parent / "escaped.csv").exists()


def test_an_archive_that_is_cut_off_is_one_clear_line(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "runs.zip", {"metrics.csv": CSV}).read_bytes()
    (tmp_path / "runs.zip").write_bytes(whole[:-30])

    with pytest.raises(LogUnreadableError, match="cannot be unpacked") as caught:
        list(open_logs([tmp_path / "runs.zip"]))

    assert "\n" not in str(caught.value)


def test_an_archive_without_a_log_says_so(tmp_path: Path) -> None:
    path = zipped(tmp_path / "holiday.zip", {"greetings.txt": "Dear all"})

    with pytest.raises(NothingReadableError, match="no training log in this archive"):
        list(open_logs([path]))


def test_an_mlflow_run_is_one_log_under_its_own_name(tmp_path: Path) -> None:
    run = tmp_path / "mlruns" / "0" / "0123abcd"
    (run / "metrics" / "train").mkdir(parents=True)
    (run / "meta.yaml").write_text("artifact_uri: x\nrun_name: sunny-fox-1\n")
    lines = {at: f"{1_700_000_000_000 + at * 1000} {{}} {at}\n" for at in range(5)}
    (run / "metrics" / "loss").write_text("".join(lines[at].format(2 - at / 10) for at in lines))
    accuracy = "".join(lines[at].format("nan") for at in (0, 4))
    (run / "metrics" / "train" / "accuracy").write_text(accuracy)

    (log,) = open_logs([tmp_path / "mlruns"])
    updates = list(log.updates)

    assert (log.run, log.format, log.unit) == ("sunny-fox-1", "mlflow", "step")
    assert [update.step for update in updates] == [0, 1, 2, 3, 4]
    assert sorted(updates[4].readings) == ["loss", "train/accuracy"]
    assert math.isnan(updates[4].readings["train/accuracy"])
    assert updates[1].time == 1_700_000_001.0


def test_zeros_where_a_crash_lost_text_are_skipped_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_bytes(b"step=1 loss=2.0\nstep=2 loss=1.9\n" + bytes(5000) + b"\nstep=9 loss=1.5\n")

    log = open_log(path)

    assert [update.step for update in log.updates] == [1, 2, 9]
    assert log.partial


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_text_of_any_encoding_with_or_without_its_mark_is_read(
    encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(BROKEN.replace("\n", "\r\n").encode(encoding))

    assert len(list(open_log(path).updates)) == 42


def test_rows_after_pages_of_settings_are_found(tmp_path: Path) -> None:
    settings = "".join(f"option_{at}: value {at}\n" for at in range(10_000))
    path = tmp_path / "train.log"
    path.write_text(settings + "step=1 loss=2.0\nstep=2 loss=1.9\n")

    (named,) = open_logs([path])
    (from_folder,) = open_logs([tmp_path])

    assert [update.step for update in named.updates] == [1, 2]
    assert [update.step for update in from_folder.updates] == [1, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prices.csv", "name,price\napple,2\npear,3\n"),
        ("conf.json", '{"lr": 0.1, "loss_weight": 2}'),
        ("out.txt", "Namespace(lr=0.001, clip_norm=0.0, loss_scale=128, entropy_coef=0.01)\n"),
        ("letter.txt", "Dear all,\nthe loss of our dog is sad. Step 3 of grief.\n"),
    ],
)
def test_numbers_that_no_training_logs_are_no_log(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(NothingReadableError):
        open_log(tmp_path / name)


def test_an_xz_file_that_asks_for_gigabytes_is_refused_in_one_line(tmp_path: Path) -> None:
    greedy = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 30}]
    path = tmp_path / "out.log.xz"
    path.write_bytes(lzma.compress(b"step=1 loss=2\n" * 100, filters=greedy))

    with pytest.raises(LogUnreadableError, match="emory"):
        open_log(path)


def test_an_xz_file_of_several_streams_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "out.log.xz"
    path.write_bytes(
        lzma.compress(b"step=1 loss=2\nstep=2 loss=2\n") + lzma.compress(b"step=3 loss=1\n")
    )

    assert [update.step for update in open_log(path).updates] == [1, 2, 3]
