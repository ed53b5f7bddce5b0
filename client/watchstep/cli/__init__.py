"""The `watchstep` command."""
