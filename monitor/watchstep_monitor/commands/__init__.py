"""The service's sub-commands of `watchstep`."""

from watchstep_monitor.commands.registry import register

__all__ = ["register"]
