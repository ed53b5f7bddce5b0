"""Says once at the terminal whether the service was reached, and where the run is to be seen."""

from __future__ import annotations

import threading
import urllib.parse

from watchstep.errors import say
from watchstep.sender.config import OutboundConfig

_UNHEARD_S = 4.0
"""A service that has not answered by then is not there: a person sees it within 5 s."""


class Contact:
    """One line for the person who has just started a training.

    Attributes:
        problem: Why there was no answer, as far as is known.
    """

    def __init__(self, config: OutboundConfig) -> None:
        self.problem = "no answer in time"
        self._config = config
        self._lock = threading.Lock()
        self._done = not config.terminal
        self._timer = threading.Timer(_UNHEARD_S, self.failed)
        self._timer.daemon = True
        self._timer.name = "watchstep-contact"

    def begin(self) -> None:
        """The first request is made now."""
        if not self._done:
            self._timer.start()

    def made(self) -> None:
        """The service has answered and knows the run."""
        url = (self._config.url or "").rstrip("/")
        run = urllib.parse.quote(self._config.run, safe=":")
        self._say(f"{self._config.run} is at {url}/runs/{run}")

    def failed(self) -> None:
        """The service has not answered so far."""
        self._say(
            f"no service at {self._config.url} ({self.problem}); updates stay in the spool"
            f" {self._config.directory} and are sent when it answers. Check WATCHSTEP_URL"
        )

    def end(self) -> None:
        """The run is over."""
        self._timer.cancel()

    def _say(self, text: str) -> None:
        with self._lock:
            if self._done:
                return
            self._done = True
        self._timer.cancel()
        say(text)
