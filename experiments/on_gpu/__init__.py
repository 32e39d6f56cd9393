"""What `gpu_check.py` measures: one function for each part."""
