"""The store: SQLAlchemy Core over SQLite or PostgreSQL, one code for both."""

from watchstep_monitor.store.opening import OpenedStore, backup_sqlite, open_store

__all__ = ["OpenedStore", "backup_sqlite", "open_store"]
