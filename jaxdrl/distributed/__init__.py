"""The mesh, the layout of logical shards on it, and the only collectives of the library."""
