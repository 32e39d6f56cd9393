"""Many members of one algorithm in one program, and their exchange."""
