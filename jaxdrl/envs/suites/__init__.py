"""One adapter module for each suite, and the registry that finds them by name."""
