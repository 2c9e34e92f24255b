"""STAC, OGC and CoverageJSON as values from values; reads nothing, asks nothing."""
