"""One adapter file a suite, and the registry that finds them by name."""
