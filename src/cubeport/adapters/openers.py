"""Open an artifact as a Python object, by its format. Libraries are imported when something is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cubeport.cubes.readers import reader
from cubeport.errors import ExtraMissing, SourceRejected


@contextmanager
def _needing(extra: str, what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        install = f"pip install 'cubeport[{extra}]'" if extra in ("netcdf", "zarr", "grib") else f"pip install {extra}"
        raise ExtraMissing(f"Opening {what} needs {exc.name}, which is not installed.", next_step=install, what=extra) from exc


def _netcdf(path: Path) -> Any:
    with _needing("netcdf", "NetCDF"):
        import xarray as xr

        return xr.open_dataset(path, engine=reader("netcdf4"))


def _zarr(path: Path) -> Any:
    with _needing("zarr", "Zarr"):
        import xarray as xr
        import zarr  # noqa: F401 - asked here, as xarray says of a missing engine only that the file is unknown

        # A folder can be listed, so consolidated metadata are not needed. Without this argument xarray warns.
        return xr.open_dataset(path, engine=reader("zarr"), consolidated=False, chunks={} if find_spec("dask") else None)


def _grib(path: Path) -> Any:
    with _needing("grib", "GRIB"):
        import pyproj  # noqa: F401 - first: loaded after ecCodes it crashes (adr/0018)
        import xarray as xr

        return xr.open_dataset(path, engine="cfgrib")


def _csv(path: Path) -> Any:
    with _needing("pandas", "CSV"):
        import pandas as pd

        return pd.read_csv(path)


def _parquet(path: Path) -> Any:
    with _needing("pandas", "Parquet"):
        import pandas as pd

        return pd.read_parquet(path)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as exc:
        raise SourceRejected(f"{path.name} is not JSON: {exc}", reason="unreadable", source=path.name) from exc


OPENERS: Mapping[str, Callable[[Path], Any]] = {
    "netcdf": _netcdf,
    "zarr": _zarr,
    "grib": _grib,
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}
"""The openers by ``artifact.format``. Other formats are opened as files."""
