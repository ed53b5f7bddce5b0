"""From a batch of updates to one transaction."""
