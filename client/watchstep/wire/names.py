"""What runs, projects, metrics and tags may be called, and how any text becomes such a name."""

from __future__ import annotations

import hashlib
import re

# `\Z` and ASCII classes: `$` would let a trailing newline through, `\w` other alphabets.
METRIC_NAME = re.compile(r"[A-Za-z0-9_./:-]{1,128}\Z")
"""What a metric may be called; use with `match`."""

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\Z")
"""What a run may be called; use with `match`."""

PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,63}\Z")
"""What a project may be called; use with `match`."""

TAG_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}\Z")
"""What a tag may be called; use with `match`."""

SOURCE_NAME = re.compile(r"(training|outside|machine|otlp|rank-(0|[1-9][0-9]{0,2}|1[0-9]{3}))\Z")
"""What a source may be called, ranks from 0 to 1,999; use with `match`."""


def legal_metric_name(name: str) -> str:
    """The name itself where it is legal, else a legal one that no other text becomes."""
    return name if METRIC_NAME.match(name) else _mapped(name, r"[^A-Za-z0-9_./:-]+", 128)


def legal_run_name(name: str) -> str:
    """As `legal_metric_name`, for a run: `ALE/Pong-v5` becomes `ALE_Pong-v5-` and a hash."""
    return name if RUN_NAME.match(name) else _mapped(name, r"[^A-Za-z0-9_.:-]+", 128)


def legal_project_name(name: str) -> str:
    return name if PROJECT_NAME.match(name) else _mapped(name, r"[^A-Za-z0-9_.:/ -]+", 64)


def legal_tag_name(name: str) -> str:
    return name if TAG_NAME.match(name) else _mapped(name, r"[^A-Za-z0-9_.:/-]+", 64)


def _mapped(name: str, unfit: str, longest: int) -> str:
    # The hash is of the whole text, so two names that differ only in what was replaced or cut
    # stay two. 32 bits: of 2,000 names two collide once in 2,000 runs.
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    stem = re.sub(unfit, "_", name)[: longest - len(digest) - 1].lstrip("_.:/ -")
    return f"{stem}-{digest}" if stem else digest
