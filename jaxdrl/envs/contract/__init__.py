"""Checks whether an environment keeps the contract that training relies on."""
