"""What the routes share: the run service, the keys, and the limits that callers can ask up to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Scope

from watchstep_monitor.http.batches import BatchReader
from watchstep_monitor.http.deadlines import Deadline
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.http.rates import ADDRESS, RateCap
from watchstep_monitor.http.tokens import EVERYONE, Caller, Keyring, bearer, session
from watchstep_monitor.service.outcomes import LoopOutcomes
from watchstep_monitor.service.postmortem.runner import Postmortems
from watchstep_monitor.service.run_service import RunService
from watchstep_monitor.settings.schema import LimitSettings

if TYPE_CHECKING:
    from watchstep_monitor.gauges.instruments import Instruments
    from watchstep_monitor.notify import Worker
    from watchstep_monitor.store.outbox import Outbox

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the application.

    Attributes:
        rates: How often a token may call, or an address.
        caps_addresses: Whether addresses are capped where there are no tokens. All trainers of a
            machine, the page and Prometheus may have one address, so only where it was asked for.
        stopping: Set when the service ends, so that open streams do.
        commit_wait: See the setting `limits.commit_wait_s`.
        otlp_run_attribute: See the setting `otlp.run_attribute`.
        exposition: The text for Prometheus, for a caller of these projects (None: all), and its
            media type.
    """

    run_service: RunService
    keyring: Keyring
    batches: BatchReader
    worker: Worker
    outbox: Outbox
    exposition: Callable[[tuple[str, ...] | None], tuple[bytes, str]]
    metrics: Instruments | None
    limits: LimitSettings
    rates: RateCap
    caps_addresses: bool
    stopping: asyncio.Event
    postmortems: Postmortems
    outcomes: LoopOutcomes
    commit_wait: Deadline
    otlp_run_attribute: str


def caller(headers: Mapping[str, str], request: Scope, context: Context, scope: str) -> Caller:
    """Who calls, by the headers of the request; see `Keyring.caller`.

    Raises:
        ProblemError: 401 or 403; 429 for a token, or without tokens an address, that calls too
            often.
    """
    who = context.keyring.caller(headers, scope)
    by_cookie = "cookie" in headers and not bearer(headers) and session(headers)
    if by_cookie and request["method"] not in _SAFE and "origin" not in headers:
        # Browsers name the origin of whatever changes something, and the envelope compares it:
        # what does not say where it comes from may be another site's.
        raise ProblemError(403, "A call that changes something must name its origin.")
    if who is not EVERYONE:
        context.rates.take(who.name)
    elif context.caps_addresses:
        context.rates.take(f"{ADDRESS}{(request.get('client') or ('',))[0]}")
    return who
