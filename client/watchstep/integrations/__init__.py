"""One module a trainer; each is imported by name, with its trainer installed."""

from watchstep.integrations.mirrors import mirror

__all__ = ["mirror"]
