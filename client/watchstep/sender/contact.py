"""What the person at the terminal hears: the run's link, or what no service tells of."""

from __future__ import annotations

import threading
import urllib.parse

from watchstep.errors import say
from watchstep.sender.config import OutboundConfig

_UNHEARD_S = 4.0
"""A service that has not answered by then is not there: a person sees it within 5 s."""
_MOST_HELD = 32


class Contact:
    """Says once where the run is to be seen, or that the service does not answer.

    Attributes:
        problem: Why there was no answer, as far as is known.
    """

    def __init__(self, config: OutboundConfig) -> None:
        self.problem = "no answer in time"
        self._config = config
        self._lock = threading.Lock()
        self._answers: bool | None = None
        self._held: list[str] = []
        self._timer = threading.Timer(_UNHEARD_S, self.failed)
        self._timer.daemon = True
        self._timer.name = "watchstep-contact"

    def begin(self) -> None:
        if self._config.terminal:
            self._timer.start()

    def made(self) -> None:
        """The service has answered and knows the run."""
        self.end()
        with self._lock:
            self._answers = True
            # It hears of alerts, and tells people of them.
            self._held.clear()
        url = (self._config.url or "").rstrip("/")
        run = urllib.parse.quote(self._config.run, safe=":")
        if self._config.link:
            self._say(f"{self._config.run} is at {url}/runs/{run}")

    def failed(self) -> None:
        """The service has not answered so far."""
        self.end()
        with self._lock:
            if self._answers is not None:
                return
            self._answers = False
            held, self._held = self._held, []
        folder = self._config.directory
        where = f"the spool {folder}" if folder.is_dir() else "memory until the training ends,"
        url = self._config.url
        answers = "HTTP" in self.problem
        what = f"the service at {url} takes no updates" if answers else f"no service at {url}"
        self._say(
            f"{what} ({self.problem}); updates stay in {where} and are sent when it"
            " answers. Check WATCHSTEP_URL"
        )
        for text in held:
            self._say(text)

    def alert(self, text: str, *, is_down: bool) -> None:
        """Say what the service would tell people of, unless it can: at once or in `failed`.

        Args:
            is_down: Whether a service that has answered does so no more.
        """
        with self._lock:
            if self._answers is None:
                if len(self._held) < _MOST_HELD:
                    self._held.append(text)
                return
            is_down = is_down or not self._answers
        if is_down:
            self._say(text)

    def end(self) -> None:
        """The run is over, or the service has answered."""
        self._timer.cancel()

    def _say(self, text: str) -> None:
        if self._config.terminal:
            say(text)
