"""What every part of a watch works with."""

from __future__ import annotations

from typing import NamedTuple

from watchstep.boundary import Boundary
from watchstep.hook.options import Options
from watchstep.hook.other_ranks import OtherRanks
from watchstep.hook.stream import Stream


class Context(NamedTuple):
    """One watch's options, its stream of updates, the other processes, and what it survives."""

    options: Options
    stream: Stream
    ranks: OtherRanks
    boundary: Boundary
