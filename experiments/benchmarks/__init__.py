"""What `experiments/benchmark.py` measures: a module a mode, and the processes that do the work."""
