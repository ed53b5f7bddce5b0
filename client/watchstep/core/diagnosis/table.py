"""What each sign says for or against each cause: the whole judgement, as tables.

A weight is in logits: 2 is strong, 4 nearly settles it, 0.5 leans. Each cause starts at its prior.
Causes compete: the confidence of one is `exp(SLOPE * score)` as a share of the sum over all that
could be named and of "nothing that has a name here", whose score is `NOTHING`.
"""

from __future__ import annotations

from collections.abc import Mapping

from watchstep.core.diagnosis.agent_causes import AGENT_CAUSES, AGENT_KINDS
from watchstep.core.diagnosis.entries import Entry
from watchstep.core.diagnosis.training_causes import TRAINING_CAUSES, TRAINING_KINDS

SLOPE, NOTHING = 0.8, -0.5
"""`python -m benchmarks.judgement.calibrate` fits (1.3, -1.0) to the runs that the weights were
chosen by. Faults and trainers that nobody chose by are told less surely, so less is claimed."""

CAUSES: tuple[Entry, ...] = (*AGENT_CAUSES, *TRAINING_CAUSES)
"""Every cause that can be named, in the order that breaks ties."""
KINDS: Mapping[str, tuple[Entry, ...]] = {**AGENT_KINDS, **TRAINING_KINDS}
"""For some causes in which of several ways it came about."""
