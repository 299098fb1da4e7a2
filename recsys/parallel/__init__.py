"""All that knows about ranks: strategies, checkpoints, sharded tables."""
