"""Storage profiles: where artifacts are stored."""
