"""Acting and learning at the same time: actors, a learner, and how old the data may be."""
