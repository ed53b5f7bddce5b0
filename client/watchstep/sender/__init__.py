"""Brings updates from the trainer to the service, and never harms the trainer.

`Outbound` writes each update into a spool on disk and into a bounded queue, and one daemon
thread sends them. `sender.replay` sends what trainers that died have left in a spool.
"""

from __future__ import annotations

from watchstep.sender.config import OutboundConfig
from watchstep.sender.outbound import Outbound, OutboundStats

__all__ = ["Outbound", "OutboundConfig", "OutboundStats"]
