"""Contract tests for implementations of the service's ports."""
