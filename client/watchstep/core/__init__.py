"""The judgement itself: pure functions over values, standard library only."""
