"""The hook that a trainer adds: `init` makes a `Watch`."""

from watchstep.hook.start import init
from watchstep.hook.watch import Watch

__all__ = ["Watch", "init"]
