"""Whole episodes of a policy: their statistics, their frames, and a grid of parameters."""
