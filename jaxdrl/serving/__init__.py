"""Policies in use: they follow the checkpoints of a run, and answer over HTTP."""
