"""The web page: a thin shell, its own scripts, and the few answers that only a page needs."""

from watchstep_monitor.web.pages import page_routes

__all__ = ["page_routes"]
