"""Contract tests for backends, journals and storage profiles, also for those of third parties."""
