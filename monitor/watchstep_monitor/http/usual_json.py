"""The usual batch, decoded and checked in one pass of a compiled decoder.

Nearly every batch is numbers under known names. `msgspec` checks fields, types and ranges while
it parses, which takes a third of parsing first and looking afterwards. Whatever is not usual
(an event, NaN, RFC 3339, anything wrong) is left to the careful reader.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from watchstep_monitor.http.strict_json import keys_are_unique

MOST_COUNTER = 2**53
"""Largest `seq` and `step`: beyond it JSON parsers of other languages lose digits."""

MOST_TIME = 1e11
"""Epoch seconds until which a time is taken as it is: the year 5138."""

_BATCH_KEYS = 2
_UPDATE_KEYS = 4


class UsualUpdate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An update without an event, all of whose readings are finite numbers."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=MOST_COUNTER)]
    step: Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNTER)]
    time: Annotated[float, msgspec.Meta(ge=0.0, le=MOST_TIME)]
    metrics: dict[str, float]


class UsualBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /runs/{run}/updates` as nearly all trainers send it."""

    attempt: int
    updates: list[UsualUpdate]


_DECODER = msgspec.json.Decoder(UsualBatch)


def read_usual(body: bytes) -> UsualBatch | None:
    """The batch in a body; None where the body needs the careful reader.

    Names are not looked at, nor how many there are.
    """
    try:
        batch = _DECODER.decode(body)
    except ValueError:
        # Of msgspec and of the codec for UTF-8.
        return None
    keys = _BATCH_KEYS + sum(_UPDATE_KEYS + len(update.metrics) for update in batch.updates)
    return batch if keys_are_unique(body, keys) else None
