"""The machine under a training: its processes, its memory, its GPUs."""
