"""A live training monitor: one hook in the trainer, one service beside it."""

__version__ = "0.1.0"
