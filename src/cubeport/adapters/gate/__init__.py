"""The tasks of the confined child that reads all data from outside."""
