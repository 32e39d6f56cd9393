"""Settings and presets; importing them imports no jax."""
