"""Durable writes, file locks, mounts, and the fail points of tests."""
