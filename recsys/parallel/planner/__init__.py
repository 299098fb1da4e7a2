"""What a run needs, computed from settings: memory, FLOPs, traffic, time; no DeepSpeed is needed."""
