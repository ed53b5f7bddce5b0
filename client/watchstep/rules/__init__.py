"""Rule files, packs and the tools around them."""

from watchstep.core.rules import RuleFile
from watchstep.rules.files import (
    AUTO,
    PACKS_TAG,
    combine,
    judging,
    load,
    loaded,
    packs,
    packs_for,
    packs_named,
    read_source,
    read_text,
)

__all__ = [
    "AUTO",
    "PACKS_TAG",
    "RuleFile",
    "combine",
    "judging",
    "load",
    "loaded",
    "packs",
    "packs_for",
    "packs_named",
    "read_source",
    "read_text",
]
