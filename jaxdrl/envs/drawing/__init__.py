"""Pictures of environments that need no display."""
