"""The mesh, the logical shards on it, and the only collectives."""
