"""The client of a service: ``cubeport.connect(url)``, then search, select, and open as xarray, through STAC, Zarr and downloads."""

from cubeport.client.awaitable import AsyncDataset, AsyncPort, AsyncRecords, AsyncSelection, AsyncStacCatalog, AsyncStacDataset
from cubeport.client.dataset import Dataset, Selection
from cubeport.client.port import Port, bar
from cubeport.client.records import Count, Records
from cubeport.client.stac import StacCatalog, StacDataset

__all__ = [
    "AsyncDataset",
    "AsyncPort",
    "AsyncRecords",
    "AsyncSelection",
    "AsyncStacCatalog",
    "AsyncStacDataset",
    "Count",
    "Dataset",
    "Port",
    "Records",
    "Selection",
    "StacCatalog",
    "StacDataset",
    "bar",
]
