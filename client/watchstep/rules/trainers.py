"""Reads `packs/trainers.csv`: what the trainers that watchstep knows call their metrics."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import cast

from watchstep.core.roles import Role
from watchstep.core.vocabulary import KnownName, Vocabulary

TABLE = Path(__file__).with_name("packs") / "trainers.csv"


@cache
def vocabulary(family: str = "") -> Vocabulary:
    """The names of all known trainers, read for one kind of training."""
    return _vocabulary().for_family(family)


@cache
def _vocabulary() -> Vocabulary:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return Vocabulary(
            KnownName(
                name=row["name"],
                metric=row["metric"],
                factor=float(row["factor"] or 1.0),
                role=cast(Role, row["role"]),
                family=row["family"],
            )
            for row in csv.DictReader(file)
        )
