"""What every test starts from."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Hear Ctrl-C, which a shell's background jobs are started without, and so all they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
