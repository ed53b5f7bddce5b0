"""Old training logs, read as the updates they tell of.

`open_logs` takes files and folders; what a file is, its content decides.
"""

from watchstep.postmortem.readers.discovery import open_logs
from watchstep.postmortem.readers.logs import Log
from watchstep.postmortem.readers.opening import NothingReadableError

__all__ = ["Log", "NothingReadableError", "open_logs"]
