"""Contract tests of the service's ports, for anyone who implements one."""
