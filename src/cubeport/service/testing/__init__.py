"""Contract tests of the service's ports, for whoever implements one."""
