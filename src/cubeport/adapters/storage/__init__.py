"""Storage profiles: where artifacts lie."""
