"""Whole episodes of a policy: statistics, playback, and grids of environment parameters."""
