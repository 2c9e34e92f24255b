"""The confined child that reads what came from outside."""
