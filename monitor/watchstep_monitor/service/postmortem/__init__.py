"""Uploaded logs, examined in a process of their own."""
