"""Array code only: types, spaces, distributions, returns, losses, running statistics."""
