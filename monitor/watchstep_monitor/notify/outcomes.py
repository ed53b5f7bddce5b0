"""What an answer, or its absence, means for a delivery."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from watchstep_monitor.notify.config import NotifyConfig
from watchstep_monitor.service.ports import Dead, Delivered, Outcome, ReceiverGone, Retry

# The three 4xx that say "not now" rather than "not like this".
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver, or the way to it, does not take this notice.

    Attributes:
        reason: For people: names no address and no secret.
        permanent: True when the same again cannot help.
        gone: True when the receiver asked never to be called again.
        retry_after_s: How long the receiver asked us to wait; None when it did not say.
    """

    reason: str
    permanent: bool = False
    gone: bool = False
    retry_after_s: float | None = None


Answer = Taken | Refused


def http_answer(status: int, retry_after: str | None, now: datetime) -> Answer:
    """What an HTTP status means: only 2xx is success, and redirects are not followed."""
    if 200 <= status < 300:
        return Taken()
    if status == 410:
        return Refused("HTTP 410: the receiver is gone", permanent=True, gone=True)
    if 300 <= status < 400:
        return Refused(f"HTTP {status}: redirects are not followed", permanent=True)
    permanent = 400 <= status < 500 and status not in _PASSING
    return Refused(
        f"HTTP {status}", permanent=permanent, retry_after_s=retry_after_s(retry_after, now)
    )


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for; None when it is absent or makes no sense.

    Args:
        header: Seconds, or an HTTP date.
        now: UTC; what an HTTP date is measured from.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        # A thousand digits are legal and overflow a float: nine say thirty years.
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def outcome_of(
    answer: Answer, attempt: int, now: datetime, config: NotifyConfig, chance: Callable[[], float]
) -> Outcome:
    """What the outbox records.

    Args:
        attempt: 1 for the first try.
        now: UTC; what waits are counted from.
        chance: A number in [0, 1); full jitter, so that a receiver which comes back is not
            met by everything at once.
    """
    if isinstance(answer, Taken):
        return Delivered()
    if answer.gone:
        return ReceiverGone(answer.reason)
    if answer.permanent:
        return Dead(answer.reason)
    if attempt >= config.max_attempts:
        return Dead(f"{answer.reason}; given up after {attempt} attempts")
    return Retry(now + timedelta(seconds=_wait_s(answer, attempt, config, chance)), answer.reason)


def _wait_s(
    answer: Refused, attempt: int, config: NotifyConfig, chance: Callable[[], float]
) -> float:
    # The exponent is bounded because 2.0**1024 overflows.
    ceiling = min(config.retry_max_s, config.retry_base_s * math.ldexp(1.0, min(attempt - 1, 60)))
    jittered = ceiling * chance()
    if answer.retry_after_s is None:
        return jittered
    return min(answer.retry_after_s, config.retry_max_s) + jittered
