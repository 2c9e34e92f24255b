"""Build STAC, OGC and CoverageJSON documents from values. Nothing is read or requested."""
