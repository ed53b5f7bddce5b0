"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 223132457


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (_, _) = v
    () = w
    () = st.calm
    if st.busy:
        pass
    else:
        pass
    return out


PROGRAM = Program(
    slots=(),
    sites=(),
    globs=(),
    watched=(),
    metrics=(),
    looked_over=(),
    clocked=(),
    advance=advance,
)
