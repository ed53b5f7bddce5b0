"""Makes the runs that a folder does not hold yet, in an order that is useful wherever it stops."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.judgement import runs
from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.faults import FAULTS, drawn
from benchmarks.judgement.guards import guarded
from benchmarks.judgement.truths import truth_of

SEEDS = {"small": 9, "full": 30}
"""Seeds of each trainer by size."""
FAULTS_EVERY, VARIANTS_EVERY = 6, 2
"""A seed gets every sixth of the faults and every other variant, each in its turn."""


def cases(trainer: Trainer, seed: int) -> Iterator[Case]:
    """The runs of a trainer's seed."""
    yield Case(trainer.name, seed)
    for place, variant in enumerate(trainer.variants):
        if (place + seed) % VARIANTS_EVERY == 0:
            yield Case(trainer.name, seed, variant=variant)
    for place, name in enumerate(trainer.faults):
        if (place + seed) % FAULTS_EVERY == 0:
            fault = drawn(name, trainer.name, seed, trainer.updates)
            yield Case(trainer.name, seed, fault, FAULTS[name].variant)


def make(
    trainers: Sequence[Trainer], root: Path, size: str, only: str = "", seconds: float = 1e9
) -> None:
    """Make what is missing, seed by seed over all trainers, until the time is up.

    Args:
        only: Part of the names of the runs to make.
    """
    os.nice(5)
    torch.set_num_threads(1)
    end = time.monotonic() + seconds
    for seed in range(SEEDS[size]):
        for trainer in trainers:
            for case in cases(trainer, seed):
                if only not in case.folder or _finished(root / case.folder):
                    continue
                if time.monotonic() > end:
                    return
                make_one(trainer, case, root)


def _finished(folder: Path) -> bool:
    return (folder / "truth.json").exists() or (folder / "no-yardstick").exists()


def make_one(trainer: Trainer, case: Case, root: Path) -> bool:
    """Make one run, and its twin where that is missing; whether there is a run now."""
    began = time.process_time()
    folder = root / case.folder
    try:
        twin = _twin(trainer, case, root) if case.fault.name else None
        recording = _trained(trainer, case)
    except Exception:
        # A training that broke is the bench's own fault; the others are still worth making.
        print(f"{case.folder}: failed\n{traceback.format_exc()}", flush=True)
        return False
    truth = truth_of(case, trainer, recording, twin)
    if truth is None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "no-yardstick").touch()
        print(f"{case.folder}: learns nothing where it is healthy", flush=True)
        return False
    runs.write(folder, truth, recording)
    words = f"harm {truth.harm} lost {truth.lost}" if truth.fault else "healthy"
    print(
        f"{case.folder}: {words} {truth.start} -> {truth.outcome} (twin {truth.twin_outcome}), "
        f"{truth.updates} updates, {time.process_time() - began:.1f} s of a core",
        flush=True,
    )
    return True


def _trained(trainer: Trainer, case: Case) -> Recording:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, guarded():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return trainer.train(case)


def _twin(trainer: Trainer, case: Case, root: Path) -> Recording:
    """The healthy run of the same seed and variant: read where it is kept, else made."""
    healthy = Case(case.trainer, case.seed, variant=case.variant)
    folder = root / healthy.folder
    if not (folder / "truth.json").exists():
        recording = _trained(trainer, healthy)
        truth = truth_of(healthy, trainer, recording, None)
        if truth is None:
            return recording
        runs.write(folder, truth, recording)
    kept = runs.read(folder)
    document = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    start, outcome = (document[name] for name in ("start", "outcome"))
    nan = float("nan")
    return Recording(
        list(map(dict, kept.updates)),
        nan if start is None else start,
        nan if outcome is None else outcome,
    )
