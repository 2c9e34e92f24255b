"""The forms of a table of zones, one file each."""
