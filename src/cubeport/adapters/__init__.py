"""The code that uses disks, libraries and processes. Each adapter implements a port of ``service`` or ``catalog``."""
