"""Watching a training from outside: `run` starts one, `follow` reads logs that grow."""
