"""What must hold for any printed line: what was said is read, and reading is linear."""

from __future__ import annotations

import math
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers import open_logs
from watchstep.postmortem.readers.stream import ConsoleReader, Row

LOGS = Path(__file__).parents[1] / "logs"
MUTATIONS = int(os.environ.get("WATCHSTEP_MUTATIONS", "150"))
"""Damaged files tried; `WATCHSTEP_MUTATIONS=2000` is the full count."""

PREFIXES = (
    "",
    "[rank0]: ",
    "(RayTrainWorker pid=1234, ip=10.0.0.7) ",
    "(TaskRunner pid=99) ",
    "[1,0]<stdout>:",
    "INFO:root:",
    "INFO:__main__:",
    "2025-03-01 10:00:30,123 - trainer - INFO - ",
    "2025-03-01 10:00:30.123 | INFO     | my.trainer:fit:270 - ",
    "[2025-03-01 10:00:30,123][train][INFO] - ",
    "[03/01/25 10:00:30] INFO     ",
    "[10:00:30] ",
    "I0301 10:00:30.123456 140123456789 loop.py:48] ",
    "[INFO] ",
    "[NeMo I 2025-05-22 20:09:41 exp:1] ",
    "2025-03-01T10:00:30.123Z ",
    "> ",
    "\x1b[32mINFO\x1b[0m ",
)
WRAPPERS = (
    "{}",
    "tensor({})",
    "tensor({}, device='cuda:0')",
    "tensor([{}], device='cuda:0', grad_fn=<MulBackward0>)",
    "array({}, dtype=float32)",
    "Array({}, dtype=float32, weak_type=True)",
    "np.float64({})",
    "np.float32({})",
    "[{}]",
    "'{}'",
    '"{}"',
)
JOINTS = (
    ("{}: {}", ", "),
    ("{}={}", " "),
    ("{}={}", ", "),
    ("{}: {}", " | "),
    ("{} = {}", "; "),
    ("{} : {}", "  "),
    ("{}: {}", " - "),
    ("{}:{}", " "),
    ("{}:\t{}", "\t"),
)
NAMES = ("loss", "grad_norm", "kl", "policy_loss", "entropy", "actor/pg_loss", "reward_mean", "lr")
COUNTERS = ("step", "Step", "iteration", "iter", "update", "global_step", "Iteration")
VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1e-3, 1234.5, -7.0, math.nan, math.inf]),
)


def read(text: str) -> list[Row]:
    reader = ConsoleReader()
    return reader.feed(text.encode()) + reader.close()


def as_text(readings: dict[str, float]) -> dict[str, str]:
    return {name: repr(value) for name, value in readings.items()}


@settings(max_examples=400, deadline=None)
@given(
    prefix=st.sampled_from(PREFIXES),
    wrapper=st.sampled_from(WRAPPERS),
    joint=st.sampled_from(JOINTS),
    counter=st.sampled_from(COUNTERS),
    number=st.integers(min_value=0, max_value=10**9),
    values=st.lists(VALUES, min_size=2, max_size=len(NAMES)),
)
def test_readings_come_back_whatever_prefix_wrapper_and_separator_they_are_printed_with(
    prefix: str,
    wrapper: str,
    joint: tuple[str, str],
    counter: str,
    number: int,
    values: list[float],
) -> None:
    pair, between = joint
    readings = dict(zip(NAMES, values, strict=False))
    parts = [pair.format(counter, number)]
    parts += [pair.format(name, wrapper.format(value)) for name, value in readings.items()]

    (row,) = read(prefix + between.join(parts) + "\n")

    assert row.step == number
    assert as_text(row.readings) == as_text(readings)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, min_size=2, max_size=len(NAMES)), over=st.booleans())
def test_a_printed_dictionary_comes_back_also_over_several_lines(
    values: list[float], over: bool
) -> None:
    readings = dict(zip(NAMES, values, strict=False))
    joint = ",\n " if over else ", "
    inside = joint.join(f"'{name}': {value}" for name, value in readings.items())

    (row,) = read("{" + inside + "}\n")

    assert as_text(row.readings) == as_text(readings)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_rows_do_not_depend_on_how_the_bytes_were_cut(text: str, cuts: list[int]) -> None:
    data = f"step=1 loss=0.5\n{text}\nstep=2 loss=0.4\n{{'loss': 0.5,\n'kl': 1}}\n".encode()
    reader = ConsoleReader()
    rows: list[Row] = []
    ends = sorted(cut for cut in cuts if cut < len(data))

    for begin, end in zip([0, *ends], [*ends, len(data)], strict=True):
        rows += reader.feed(data[begin:end])
    rows += reader.close()

    assert repr(rows) == repr(read_bytes(data))


@pytest.mark.parametrize("heading", ["", "STEP:  0\n", "learning rate: 0.1\n"])
def test_a_loop_that_prints_its_loss_alone_is_read_however_slowly_it_prints(heading: str) -> None:
    lines = [heading, *(f"loss: {1 / number}\n" for number in range(1, 6))]
    reader = ConsoleReader()
    rows: list[Row] = []

    for line in lines:
        rows += reader.feed(line.encode())
        rows += reader.settle()  # As after a silence.

    losses = [row.readings["loss"] for row in rows]
    assert losses == [row.readings["loss"] for row in read("".join(lines))]
    assert len(losses) == 5


def read_bytes(data: bytes) -> list[Row]:
    reader = ConsoleReader()
    return reader.feed(data) + reader.close()


TOKENS = (
    *("1", "nan ", "1,234,", "1.", "1:", "'", '"', "{", "(", "[", "=", "a=1 ", "loss: ", "|", "%|"),
    *("1/", "\x1b[", "\x1b]", "-1", "1e", "_", "1:00:", "2024-", "\t", "\r", "\n", "\b", "}", "│"),
    *("tensor(", "step ", "'a':", "inf", "[rank0]:", "INFO ", "ValueError: ", "overflow reducing "),
    *(
        "loss is ",
        "exit code ",
        "at step ",
        "Traceback (most recent call last)\n",
        "epoch 1 ",
        "-- ",
    ),
    *('{"a":', "a,", '"\n', "1970-01-01 00:00:00 ", "a b ", "5%| ", "==", "Epoch 1:  ", "(a"),
)


@pytest.mark.parametrize("token", TOKENS)
def test_a_megabyte_of_any_token_takes_no_longer_than_linear_reading(token: str) -> None:
    one_line = token * (1_000_000 // len(token))
    long_lines = (token * (19_000 // len(token)) + "\n") * 52

    begin = time.process_time()
    read(one_line)
    read(long_lines)

    # A pattern that backtracks takes minutes; a busy machine takes its time, too.
    assert time.process_time() - begin < 20.0


def test_a_line_of_a_hundred_megabytes_is_not_held_in_memory() -> None:
    reader = ConsoleReader()
    reader.feed(b"step=1 loss=2\n")

    for _ in range(100):
        reader.feed(b"a=1 " * 250_000)

    assert len(reader._rest) <= 20_000
    assert [row.step for row in reader.feed(b"\nstep=2 loss=3\n")] == [2]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes changed, cut, doubled or exchanged."""
    pieces = bytearray(data[: chance.randrange(200, 20_000)])
    for _ in range(chance.randrange(1, 30)):
        at = chance.randrange(len(pieces) + 1)
        how = chance.randrange(4)
        if how == 0:
            pieces[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            del pieces[at : at + chance.randrange(50)]
        elif how == 2:
            pieces[at:at] = pieces[at : at + chance.randrange(200)]
        else:
            pieces[at:at] = chance.choice(TOKENS).encode() * chance.randrange(1, 40)
    return bytes(pieces)


def test_damaged_logs_of_every_format_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    chance = random.Random(20)
    sources = sorted(path for path in LOGS.rglob("*") if path.is_file() and path.suffix != ".md")

    refusals: list[LogUnreadableError] = []
    for number in range(MUTATIONS):
        source = sources[number % len(sources)]
        path = tmp_path / source.name
        path.write_bytes(damaged(source.read_bytes(), chance))
        for log in open_logs([path], unreadable=lambda _, error: refusals.append(error)):
            for _ in log.updates:
                pass
    assert all("\n" not in str(error) for error in refusals)
