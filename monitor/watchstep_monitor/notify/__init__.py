"""Telling people: claims deliveries from the outbox, renders, signs, sends, records the end.

The application builds one `Worker` and calls `wake` after every commit that wrote to the
outbox.
"""

from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.worker import TestResult, Worker

__all__ = [
    "NotifyConfig",
    "ReceiverConfig",
    "TestResult",
    "Worker",
]
