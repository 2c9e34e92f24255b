"""A task whose module cannot be imported."""

raise ZeroDivisionError("planted")
