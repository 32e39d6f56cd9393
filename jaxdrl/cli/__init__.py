"""The `jaxdrl` command."""
