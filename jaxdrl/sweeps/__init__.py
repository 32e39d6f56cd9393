"""Many runs or members: waves, searches and their ranking."""
