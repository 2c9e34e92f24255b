"""Contract tests that anybody can run against an own backend, journal or storage."""
