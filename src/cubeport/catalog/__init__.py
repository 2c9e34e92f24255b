"""The core: a catalog of records for files of any kind. Knows nothing of climate, xarray, HTTP or pygeoapi."""
