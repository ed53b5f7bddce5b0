"""Exit 0 while the service can commit updates, 1 otherwise: the image's health check."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

# Below the health check's own 5 s, so that the reason is printed and not just cut off.
TIMEOUT_S = 4.0


def main() -> int:
    """Ask `/readyz` on this machine; says why on stderr when the answer is not good."""
    port = os.environ.get("WATCHSTEP_PORT", "8420")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT_S):
            return 0
    except (urllib.error.URLError, OSError) as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
