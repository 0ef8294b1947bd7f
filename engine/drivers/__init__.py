"""Drivers: pure functions from a network or an endpoint to the objects that exist because of it. Rank 4."""
