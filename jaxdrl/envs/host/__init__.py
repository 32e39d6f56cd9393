"""Environments of the host, which do not run in JAX: the protocol, and one adapter a package."""
