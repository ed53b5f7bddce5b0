"""Where the hook is inside the command too: it speaks for the run, and the outside adds its end.

The outside is a source of its own in the hook's attempt. It begins when the hook's process has
ended, and first brings over what that left in the spool.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchstep.checkpoint.folder import Folder
from watchstep.core.updates import Update
from watchstep.hook.options import Options
from watchstep.outside.run_stream import close_patiently
from watchstep.sender import Outbound, OutboundConfig
from watchstep.sender.session import Header

SOURCE = "outside"
_SEND_S = 30.0
"""For what the hook left and the end."""


class InnerHook:
    """Looks out for a hook's session, and tells its end.

    Attributes:
        mark: File in which a hook inside says which session is its own.
        header: Who the session says that it is; None while there is none.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._spool = options.directory
        self._checkpoints: Path | None = None
        self.mark = options.directory.resolve() / f"outside-{os.urandom(8).hex()}"
        self.header: Header | None = None

    def look(self) -> bool:
        if self.header is None:
            try:
                fields = json.loads(self.mark.read_bytes())
                self._spool, checkpoints = Path(fields.pop("spool")), fields.pop("checkpoints")
                self._checkpoints = None if checkpoints is None else Path(checkpoints)
                self.header = Header(**fields)
            except (OSError, ValueError, TypeError, KeyError):
                return False
        return True

    @property
    def pin(self) -> str | None:
        """Path of the last good checkpoint; None where none is known."""
        if self._checkpoints is None or not self._checkpoints.is_dir():
            return None
        pinned = Folder(self._checkpoints).pinned()
        return None if pinned is None else str(pinned.path)

    def end(self, event: Mapping[str, Any]) -> None:
        """Tell how the command ended; what the service does not hear stays in the spool."""
        header, options = self.header, self._options
        if header is None:
            return
        self.mark.unlink(missing_ok=True)
        config = OutboundConfig(
            run=header.run,
            url=options.url,
            token=options.token,
            project=header.project,
            tags=header.tags,
            config=header.config,
            trainer=header.trainer,
            directory=self._spool,
            mode="offline" if options.mode == "offline" else "online",
            source=SOURCE,
            session=header.session,
        )
        outbound = Outbound(config)
        outbound.put(Update(1, 0, time.time(), {}, event))
        close_patiently(outbound, self._spool, _SEND_S)
