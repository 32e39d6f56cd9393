"""Arrays alone: types, spaces, distributions, returns, losses, running statistics."""
