"""Makes one post-mortem in a process of its own.

Run as `python -m watchstep_monitor.service.postmortem.child_process`.

A log is a stranger's file, and examining it takes seconds of a processor: here it can neither
hold up the service nor take its memory. Reads one `Job` as JSON from stdin, and answers with one
JSON object on stdout: `{"runs": [...], "page": "..."}`, or `{"refused": "..."}`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.downsampled_series import Series
from watchstep.postmortem.examination import Examination, examine
from watchstep.postmortem.fleet import Fleet
from watchstep.postmortem.page import render
from watchstep.postmortem.readers import Log, open_logs
from watchstep.wire.text import number_to_json
from watchstep_monitor.service.chart_scales import scales
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.postmortem.runner import Job

MOST_RUNS = 12
"""Runs that are examined of one file; only a database holds more than one."""

MOST_CHARTS = 10
MOST_MEMORY_BYTES = 512 << 20
"""Ten times what the largest log takes that is read line by line; a crafted one gets no more. Two
of them beside the service stay below the memory that the Kubernetes manifests allow."""

NICENESS = 10
"""Watching goes before looking back."""


def main() -> None:
    """See the module."""
    job = Job(**json.load(sys.stdin))
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (job.processor_s, job.processor_s + 1))
    os.nice(NICENESS)
    folder = str(Path(job.path).parent)
    try:
        text = json.dumps(report(job), allow_nan=False)
    except LogUnreadableError as error:
        text = json.dumps({"refused": str(error)})
    # Notes and reasons may name the file; where it lay for a moment is nobody's business.
    sys.stdout.write(text.replace(folder + "/", ""))


def report(job: Job) -> dict[str, Any]:
    """The examinations of a log, worst first, and the same as one self-contained page.

    Raises:
        LogUnreadableError: It is no log in any format known here.
    """
    fleet = Fleet(drawn=MOST_RUNS)
    for at, log in enumerate(open_logs([Path(job.path)])):
        if at == MOST_RUNS:
            break
        _name(log, job)
        examination = examine(log, job.rules or None, draw=True, look_beside=False)
        examination.path = job.shown
        fleet.add(examination)
    worst = fleet.worst()
    return {
        "runs": [
            {
                **plain(examination.as_json()),
                "means": examination.verdict_because,
                "charts": list(_charts(examination)),
            }
            for examination in worst
        ],
        "page": render(worst, fleet.verdicts),
    }


def _name(log: Log, job: Job) -> None:
    if job.run:
        log.run, log.format, log.unit = job.run, "stored", "step"
        log.tags |= job.tags
    elif log.run == Path(job.path).parent.name:
        # Its own name says nothing ("progress.csv"), and it was sent without its folder.
        log.run = job.shown


def _charts(log: Examination) -> Iterator[dict[str, Any]]:
    if log.downsampled is None or log.rule_set is None:
        return
    chosen = log.downsampled.chosen(MOST_CHARTS)
    lines = scales(log.rule_set, dict.fromkeys(chosen, 0.0) | log.downsampled.scales)
    for metric, series in chosen.items():
        yield {
            "metric": metric,
            "points": list(_points(series)),
            "thinned": series.width > 1,
            "scale": lines.get(metric, {"zones": [], "thresholds": []}),
        }


def _points(series: Series) -> Iterator[tuple[int, float | str]]:
    """Update and reading: of neighbours that share a place the extremes, and what was no number."""
    for bucket in series.buckets:
        if bucket.low == bucket.low:
            yield bucket.first_update, number_to_json(bucket.low)
            if bucket.high != bucket.low:
                yield bucket.last_update, number_to_json(bucket.high)
        if bucket.lost:
            yield bucket.last_update, "NaN"


if __name__ == "__main__":
    main()
