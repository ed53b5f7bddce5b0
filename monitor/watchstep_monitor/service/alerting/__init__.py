"""Alerts, silences and incidents of a run, and what is told of them."""
