"""The client of a service: ``cubeport.connect(url)``, then search, select, and open as xarray, through STAC, Zarr and downloads."""

from cubeport.client.dataset import Dataset, Selection
from cubeport.client.port import Port

__all__ = ["Dataset", "Port", "Selection"]
