"""How versions lie on disk."""
