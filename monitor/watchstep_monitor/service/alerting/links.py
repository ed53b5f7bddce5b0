"""Links of messages with which a person acts without a login: signed, and void after a week.

Whoever has the message may act, and only on its incident. The address is opened by previews of
chat systems too, so it shows a page that asks; only its button, a POST, does something.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args
from urllib.parse import quote

Act = Literal["acknowledge", "silence", "right", "false-alarm"]
ACTS: tuple[Act, ...] = get_args(Act)

GOOD_FOR = timedelta(days=7)
"""A weekend and a holiday; reminders bring new links."""

SILENCED_FOR = timedelta(hours=1)
LABELS: dict[Act, str] = {
    "acknowledge": "Acknowledge",
    "silence": "Silence for an hour",
    "right": "Right",
    "false-alarm": "False alarm",
}


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """Makes the links and knows them again.

    Attributes:
        key: The same at every replica.
        base_url: Without a slash at its end.
    """

    key: bytes
    base_url: str

    def links(self, run: str, incident: str, now: datetime, *, open_: bool) -> dict[str, str]:
        """Label and address of every link; what is over needs only an answer."""
        until = int((now + GOOD_FOR).timestamp())
        return {
            LABELS[act]: self._link(run, incident, act, until)
            for act in (ACTS if open_ else ACTS[2:])
        }

    def is_good(self, run: str, incident: str, act: Act, until: int, signature: str) -> bool:
        return hmac.compare_digest(self._signature(run, incident, act, until), signature)

    def _link(self, run: str, incident: str, act: Act, until: int) -> str:
        signature = self._signature(run, incident, act, until)
        place = f"{quote(run, safe='')}/{incident}/{act}/{until}/{signature}"
        return f"{self.base_url}/act/{place}"

    def _signature(self, run: str, incident: str, act: Act, until: int) -> str:
        text = f"{run}\n{incident}\n{act}\n{until}"
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:32]
