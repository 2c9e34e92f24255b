"""The unit of work: its journal, its compensations, and recovery after a crash."""
