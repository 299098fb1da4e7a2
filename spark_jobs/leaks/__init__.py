"""Whether a feature at a cut tells what only came after it."""
