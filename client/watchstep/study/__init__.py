"""Studies over many runs: compare, frequency, cost and backtests; a monitor needs none of them."""
