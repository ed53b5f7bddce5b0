"""Helpers for reinforcement learning loops. Importing this does not import torch."""

from __future__ import annotations

from watchstep.rl.advantages import standardize_advantages

__all__ = ["standardize_advantages"]
