"""Algorithms as pure functions, and the parts that they share: the agent, rollouts, minibatches."""
