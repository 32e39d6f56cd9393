"""One run: its directory, checkpoints, metrics, loop, stops and trackers."""
