"""The core: a catalog of records for files of any kind. It knows nothing about climate data, xarray, HTTP or pygeoapi."""
