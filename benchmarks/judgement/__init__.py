"""Real small trainings, broken in known ways, and what a monitor says of them."""
