"""How good the rankings and the value estimates are: per-user figures, statistics, intervals."""
