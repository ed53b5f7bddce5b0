"""The watchstep service: stores updates, judges them, opens alerts, tells people."""
