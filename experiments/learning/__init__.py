"""Parts of `experiments/learning_table.py`."""
