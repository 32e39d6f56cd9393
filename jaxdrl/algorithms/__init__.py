"""Algorithms: each is one file that reads from top to bottom."""
