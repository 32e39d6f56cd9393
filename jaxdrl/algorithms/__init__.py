"""Algorithms as pure functions, and what they share: rollouts, minibatches, the agent."""
