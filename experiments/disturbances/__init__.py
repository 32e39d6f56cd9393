"""Faults in one of several processes that train a run; `host_faults.py` is their command line."""
