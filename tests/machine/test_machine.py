"""What is read of a machine: processes and disks as they are, GPUs by recorded answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from watchstep.machine.gpus import Gpu, Nvml, nvml, readings
from watchstep.machine.processes import descendants, files_written
from watchstep.machine.sampler import Sampler, sample

PATIENCE_S = 30.0


class NVMLError(Exception):
    """As pynvml's: the number says what is wrong."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class RecordedNvml:
    """Answers in the shape of nvidia-ml-py 12 on an H100: percents, bytes, milliwatts, a bit mask.

    Args:
        answers: One mapping a device, function to answer; an exception is raised.
    """

    NVMLError = NVMLError

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = answers

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.answers)

    def nvmlDeviceGetHandleByIndex(self, at: int) -> int:  # noqa: N802
        return at

    def __getattr__(self, function: str) -> Any:
        if not any(function in device for device in self.answers):
            raise AttributeError(function)

        def answer(handle: int, *_: int) -> Any:
            value = self.answers[handle][function]
            if isinstance(value, Exception):
                raise value
            return value

        return answer


BUSY = {
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=61),
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 << 30, free=20 << 30, used=60 << 30),
    "nvmlDeviceGetPowerUsage": 412_345,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4,
    "nvmlDeviceGetTemperature": 71,
    "nvmlDeviceGetTotalEccErrors": 0,
}


def test_a_busy_device_is_read_in_plain_units() -> None:
    (gpu,) = Nvml(RecordedNvml(BUSY)).devices()

    assert gpu == Gpu(
        utilization=0.97,
        memory_used_share=0.75,
        temperature_celsius=71.0,
        power_watts=412.345,
        throttled=False,
        ecc_errors=0,
    )


@pytest.mark.parametrize(
    ("reasons", "throttled"), [(0x0, False), (0x1, False), (0x4, False), (0x8, True), (0x44, True)]
)
def test_a_power_cap_is_no_throttling_and_heat_is(reasons: int, throttled: bool) -> None:
    device = {**BUSY, "nvmlDeviceGetCurrentClocksThrottleReasons": reasons}

    assert Nvml(RecordedNvml(device)).devices()[0].throttled is throttled


def test_what_a_device_does_not_tell_is_left_out() -> None:
    unsupported = {name: NVMLError(3) for name in BUSY} | {"nvmlDeviceGetTemperature": 40}

    named = readings(Nvml(RecordedNvml(unsupported)).devices())

    assert named == {
        "system/gpu0/temperature_celsius": 40.0,
        "system/gpus_lost": 0.0,
        "system/gpus_throttled": 0.0,
    }


def test_a_device_that_has_fallen_off_the_bus_is_counted_as_lost() -> None:
    lost = {name: NVMLError(15) for name in BUSY}

    named = readings(Nvml(RecordedNvml(BUSY, lost)).devices())

    assert named["system/gpus_lost"] == 1.0
    assert named["system/gpu1/lost"] == 1.0
    assert named["system/gpu0/utilization"] == 0.97


def test_an_idle_device_is_counted() -> None:
    idle = {**BUSY, "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0)}

    named = readings(Nvml(RecordedNvml(BUSY, idle, idle)).devices())

    assert named["system/gpus_idle"] == 2.0


def test_a_machine_without_a_driver_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert nvml() is None


def test_without_psutil_the_rest_is_read_all_the_same(tmp_path: Path) -> None:
    named = sample(tmp_path, None, None)

    assert named["system/disk_free_bytes"] > 0
    assert 0.0 <= named["system/disk_used_share"] <= 1.0
    assert "system/cpu_percent" not in named


def test_the_machine_is_read_with_psutil(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")

    named = sample(tmp_path, psutil, None)

    assert 0.0 < named["system/memory_used_share"] < 1.0
    assert named["system/cpu_percent"] >= 0.0


def test_each_sample_is_given_once(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, gpus=Nvml(RecordedNvml(BUSY)), every_s=3600.0)
    sampler.start()
    deadline = time.monotonic() + PATIENCE_S
    while not (first := sampler.take()) and time.monotonic() < deadline:
        time.sleep(0.01)

    again = sampler.take()

    sampler.stop()
    assert first["system/gpu0/utilization"] == 0.97
    assert again == {}


def test_processes_below_one_are_found_with_what_they_write(tmp_path: Path) -> None:
    program = "import sys, time; file = open('log.txt', 'w'); print('ready'); time.sleep(600)"
    shell = subprocess.Popen(
        ["sh", "-c", '"$0" -u -c "$1"; true', sys.executable, program],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert shell.stdout is not None
    shell.stdout.readline()

    tree = descendants(os.getpid())

    below = {process.pid: process for process in tree}
    child = next(process for process in tree if process.parent == shell.pid)
    assert below[shell.pid].name == "sh"
    assert child.memory_bytes > 1_000_000
    assert tmp_path / "log.txt" in set(files_written(child.pid))
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait(PATIENCE_S)
    shell.stdout.close()


def test_a_process_that_has_ended_tells_how_until_it_is_reaped() -> None:
    process = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    (ended,) = [
        descendant for descendant in descendants(os.getpid()) if descendant.pid == process.pid
    ]

    assert ended.state == "Z"
    assert os.waitstatus_to_exitcode(ended.exit_status) == 7
    assert process.wait(PATIENCE_S) == 7
