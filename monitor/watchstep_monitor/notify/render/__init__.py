"""Notices as each kind of receiver wants to read them: pure functions, notice to body."""

from collections.abc import Callable

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.service.ports import Notice

Renderer = Callable[[Notice, ReceiverConfig], str]
"""To the JSON text of a body; the receiver gives its name and, to PagerDuty, its key."""
