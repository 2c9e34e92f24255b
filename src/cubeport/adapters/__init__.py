"""The edge: what touches disks, libraries and processes; each adapter implements a port of ``service`` or ``catalog``."""
