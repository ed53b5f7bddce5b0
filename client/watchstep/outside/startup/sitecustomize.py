"""What `watchstep run` has Python do first where WATCHSTEP_MIRROR is set: see `runner`.

This folder comes first in the module path of the command, and is taken out of it again, so that
an own `sitecustomize` of the machine's runs as it would have.
"""

import contextlib
import importlib
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _here]
sys.modules.pop(__name__, None)
with contextlib.suppress(ImportError):
    importlib.import_module("watchstep")
with contextlib.suppress(ModuleNotFoundError):
    importlib.import_module("sitecustomize")
