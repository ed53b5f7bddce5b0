"""What the service keeps of each run, and how it changes."""
