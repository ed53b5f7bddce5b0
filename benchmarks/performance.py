"""Every figure beside its peer, measured in one run, as one table in `docs/performance.md`.

    python benchmarks/performance.py [--write docs/performance.md]

Runs the benchmarks that have a peer, in sizes that end within ten minutes together, prints what
they print and writes their ratios down: with the machine, the day, the commit, and how much of
the machine others used meanwhile. What cannot run here (no PostgreSQL, no InfluxDB) is a line
that says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchstep.core import engine_kind

HERE = Path(__file__).resolve().parent
LONGEST_S = 300


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ratio` is ours by the peer's, and `more` whether more is better."""

    what: str
    ours: str
    peer: str
    ratio: float
    more: bool = False


@dataclass(frozen=True)
class Source:
    """A benchmark's command, how its output is read, and a program that it needs."""

    command: tuple[str, ...]
    figures: Callable[[str], Iterable[Figure]]
    needs: str = ""

    @property
    def name(self) -> str:
        return self.command[0].removesuffix(".py")


def of_log(text: str) -> Iterator[Figure]:
    """`log_cost.py`: a header for each pace, the reference, then the states of the service."""
    pace, reference = "", ""
    for line in text.splitlines():
        if line.startswith(("tight", "paced")):
            pace = line.partition(",")[0]
        match = re.match(r"  (.+?)\s+p50\s+([\d.]+)\s+p99\s+[\d.]+\s+([\d.]+)x", line)
        if match is None:
            continue
        if match[1].startswith("json"):
            reference = f"json.dumps, append and flush: {match[2]} µs"
        else:
            state = match[1].removeprefix("watch.log, ")
            yield Figure(
                f"`log` of 20 floats, {pace}, {state}", f"{match[2]} µs", reference, float(match[3])
            )


def of_rates(text: str) -> Iterator[Figure]:
    """`request_cost.py` and `ingest_peers.py`: a header for each kind, the peer, then ours."""
    kind, peer = "", ""
    for line in text.splitlines():
        match = re.match(r"  (.+?)\s+([\d,]+) (requests|readings)/s\s+([\d.]+)x", line)
        if match is None:
            kind = line.rstrip(":") if line.endswith(":") else kind
        elif float(match[4]) == 1.0 and not peer.startswith(kind):
            peer = f"{kind}|{match[1]}: {match[2]} {match[3]}/s"
        else:
            ours = f"{match[2]} {match[3]}/s"
            of_peer = peer.partition("|")[2]
            yield Figure(f"{kind}; {match[1]}", ours, of_peer, float(match[4]), more=True)


def of_alerts(text: str) -> Iterator[Figure]:
    """`alert_latency.py`: three lines with a median each."""
    medians = [float(each) for each in re.findall(r"p50\s+([\d.]+) ms", text)]
    received, _, synced = medians
    peer = f"fdatasync of a page: {synced} ms"
    yield Figure(
        "a NaN's way from its POST to the receiver", f"{received} ms", peer, received / synced
    )


def of_finite(text: str) -> Iterator[Figure]:
    """`finite_cost.py`: one JSON object."""
    report = json.loads(text)
    peer = f"reading the same bytes: {report['read_ms']} ms"
    ratio = report["check_ms"] / report["read_ms"]
    yield Figure("finite check of a state", f"{report['check_ms']} ms", peer, ratio)


def of_saves(text: str) -> Iterator[Figure]:
    """`checkpoint_cost.py`: one JSON object."""
    report = json.loads(text)
    peer = f"write and fsync of as many bytes: {report['raw_s']} s"
    ratio = report["save_over_raw"]
    yield Figure("checked, hashed and synced save", f"{report['save_s']} s", peer, ratio)


SOURCES = (
    Source(("log_cost.py", "--updates", "5000", "--paced", "300"), of_log),
    Source(("request_cost.py", "--seconds", "3", "--rounds", "1"), of_rates),
    Source(("ingest_peers.py", "--seconds", "2", "--rounds", "1"), of_rates, needs="influxd"),
    Source(("alert_latency.py", "--alerts", "50"), of_alerts),
    Source(("finite_cost.py", "--parameters", "20000000", "--rounds", "5"), of_finite),
    Source(("checkpoint_cost.py", "--megabytes", "100", "--rounds", "3"), of_saves),
)


class Others:
    """Cores that the rest of the machine used: what all did, less this process and its children."""

    def __init__(self) -> None:
        self._begun, self._all_s, self._own_s = time.monotonic(), _busy_s(), _own_s()

    def cores(self) -> float:
        """Since it was made, on average."""
        lasted = time.monotonic() - self._begun
        return max(_busy_s() - self._all_s - _own_s() + self._own_s, 0.0) / lasted


def _busy_s() -> float:
    """Seconds of processor time that all processes together have had."""
    user, nice, system, _, _, irq, soft = map(
        int, Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def rows_of(source: Source) -> Iterator[str]:
    """The table's lines from one benchmark, or the one that says why there are none."""
    if source.needs and shutil.which(source.needs) is None:
        yield f"| `{source.name}` was not run: no `{source.needs}` here | | | | |"
        return
    print(f"== {source.name}", flush=True)
    others = Others()
    command = [sys.executable, str(HERE / source.command[0]), *source.command[1:]]
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=LONGEST_S
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error.stderr or error)
        yield f"| `{source.name}` did not come to its end: {type(error).__name__} | | | | |"
        return
    print(output, flush=True)
    load = others.cores()
    for each in source.figures(output):
        better = each.ratio >= 1.0 if each.more else each.ratio <= 1.0
        shown = f"{each.ratio:.2f}" if better else f"**{each.ratio:.2f}**"
        direction = "more is better" if each.more else "less is better"
        yield (
            f"| {each.what} | {each.ours} | {each.peer} | {shown}, {direction} | {load:.1f} cores |"
        )


PAGE = """# Performance

Each figure stands beside its peer, measured in the same run on the same machine, and the ratio of
the two is what counts: machines differ, and others were at work. Where the peer is better the ratio
is bold. `make bench` measures all of it anew and writes this page.

Measured on {day} at commit `{commit}`, in {minutes:.0f} minutes: {cores} cores ({machine}), Python
{python}, rule engine {engine}. The last column is what other processes of the machine used
meanwhile; a database server counts among them.

| Figure | watchstep | Peer | Ratio | Used by others |
|---|---|---|---|---|
{rows}

What the peers do not do: the file beside `log` is neither judged nor sent; the bare ASGI
application looks at nothing and finds nothing again; InfluxDB judges nothing. More figures, without
a peer, are in [Scale](operate/scale.md).
"""


def page(rows: Iterable[str], took_s: float) -> str:
    """The whole document."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE).stdout
    return PAGE.format(
        day=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        commit=commit.strip() or "unknown",
        minutes=took_s / 60,
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
        engine=engine_kind(),
        rows="\n".join(rows),
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, default=HERE.parent / "docs" / "performance.md")
    chosen = parser.parse_args()
    begun = time.monotonic()
    rows = [row for source in SOURCES for row in rows_of(source)]
    chosen.write.write_text(page(rows, time.monotonic() - begun), encoding="utf-8")
    print(f"written: {chosen.write}")


if __name__ == "__main__":
    main()
