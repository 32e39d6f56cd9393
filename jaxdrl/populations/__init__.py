"""Many members of one algorithm in one program, and population-based training among them."""
