"""One file per trainer, each a line or two for the user."""
