"""A small file of each grid family. Each value tells its own place, so an answer from the wrong cell shows itself.

``value[t, z, y, x] = 1000·t + 100·z + 10·y + x`` on every family; :func:`positions` gives longitude and latitude of each cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import xarray as xr

LONGITUDE = {"standard_name": "longitude", "units": "degrees_east"}
LATITUDE = {"standard_name": "latitude", "units": "degrees_north"}


def values(*sizes: int) -> np.ndarray:
    """Return the array of *sizes* in which each value tells its indices."""
    total = np.zeros(sizes, "f4")
    for axis, weight in zip(range(len(sizes) - 1, -1, -1), (1, 10, 100, 1000), strict=False):
        shape = [1] * len(sizes)
        shape[axis] = -1
        total += weight * np.arange(sizes[axis], dtype="f4").reshape(shape)
    return total


def days(count: int = 3, calendar: str = "standard") -> xr.DataArray:
    return xr.DataArray(
        np.arange(count, dtype="f8"), dims="time", attrs={"units": "days since 2020-01-01", "calendar": calendar, "axis": "T"}
    )


def grid(lon: np.ndarray, lat: np.ndarray, *, calendar: str = "standard") -> xr.Dataset:
    data = xr.Dataset({"t": (("time", "lat", "lon"), values(3, lat.size, lon.size), {"units": "K", "long_name": "Temperature"})})
    return data.assign_coords(lon=("lon", lon, LONGITUDE), lat=("lat", lat, LATITUDE), time=days(calendar=calendar))


def regular() -> xr.Dataset:
    return grid(np.arange(-157.5, 180, 45), np.arange(75.0, -80, -30))


def south_up() -> xr.Dataset:
    return grid(np.arange(-20.0, 21, 10), np.arange(-20.0, 21, 10))


def from_0_to_360() -> xr.Dataset:
    return grid(np.arange(0.0, 360, 60), np.arange(75.0, -80, -30))


def over_the_dateline() -> xr.Dataset:
    return grid(np.arange(170.0, 195, 5), np.arange(10.0, -11, -5))


def days_of_360() -> xr.Dataset:
    return grid(np.arange(0.0, 50, 10), np.arange(0.0, 50, 10), calendar="360_day")


def packed() -> xr.Dataset:
    data = grid(np.arange(0.0, 50, 10), np.arange(0.0, 50, 10))
    data.t.encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 100.0, "_FillValue": -32768}
    return data


def members() -> xr.Dataset:
    data = grid(np.arange(0.0, 50, 10), np.arange(0.0, 50, 10))
    member = xr.DataArray([1, 2], dims="member", attrs={"standard_name": "realization"})
    wide = xr.DataArray(values(3, 2, 5, 5), dims=("time", "member", "lat", "lon"), attrs=data.t.attrs)
    return data.assign(t=wide).assign_coords(member=member)


def pressure_levels() -> xr.Dataset:
    data = grid(np.arange(0.0, 50, 10), np.arange(0.0, 50, 10))
    level = xr.DataArray([1000.0, 500.0], dims="level", attrs={"standard_name": "air_pressure", "units": "hPa", "positive": "down"})
    wide = xr.DataArray(values(3, 2, 5, 5), dims=("time", "level", "lat", "lon"), attrs=data.t.attrs)
    return data.assign(t=wide).assign_coords(level=level)


def no_time() -> xr.Dataset:
    return grid(np.arange(0.0, 50, 10), np.arange(0.0, 50, 10)).isel(time=0, drop=True)


def _projected(crs: pyproj.CRS, x: np.ndarray, y: np.ndarray, attributes: dict[str, object], units: str) -> xr.Dataset:
    data = xr.Dataset({"t": (("time", "y", "x"), values(3, y.size, x.size), {"units": "K", "grid_mapping": "crs"})})
    data["crs"] = xr.DataArray(0, attrs=attributes)
    kind = "grid" if units == "degrees" else "projection"
    return data.assign_coords(
        x=("x", x, {"standard_name": f"{kind}_{'longitude' if kind == 'grid' else 'x_coordinate'}", "units": units}),
        y=("y", y, {"standard_name": f"{kind}_{'latitude' if kind == 'grid' else 'y_coordinate'}", "units": units}),
        time=days(),
    )


LAEA = pyproj.CRS.from_epsg(3035)
ROTATED = pyproj.CRS.from_cf(
    {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
)


def projected() -> xr.Dataset:
    return _projected(LAEA, np.arange(4.0e6, 4.5e6, 1e5), np.arange(3.5e6, 3.0e6, -1e5), LAEA.to_cf(), "m")


def rotated_pole() -> xr.Dataset:
    return _projected(ROTATED, np.arange(-10.0, 11, 5), np.arange(-10.0, 11, 5), ROTATED.to_cf(), "degrees")


def curvilinear() -> xr.Dataset:
    j, i = np.meshgrid(np.arange(5), np.arange(6), indexing="ij")
    data = xr.Dataset({"t": (("time", "j", "i"), values(3, 5, 6), {"units": "K", "coordinates": "lat lon"})})
    return data.assign_coords(
        lon=(("j", "i"), 10.0 + 2 * i + 0.5 * j, LONGITUDE), lat=(("j", "i"), 40.0 + 2 * j - 0.25 * i, LATITUDE), time=days()
    )


def unstructured() -> xr.Dataset:
    data = xr.Dataset({"t": (("time", "cell"), values(3, 8), {"units": "K", "coordinates": "lat lon"})})
    lon, lat = np.array([0, 10, 20, 30, 5, 15, 25, 35.0]), np.array([0, 1, 2, 3, 10, 11, 12, 13.0])
    return data.assign_coords(lon=("cell", lon, LONGITUDE), lat=("cell", lat, LATITUDE), time=days())


@dataclass(frozen=True, slots=True)
class Family:
    make: Callable[[], xr.Dataset]
    suffix: str = ".nc"
    format: str = "NETCDF4"
    crs: pyproj.CRS | None = None

    def write(self, folder: Path, name: str) -> Path:
        """Write the family's file (or Zarr folder) and return its path."""
        path = folder / f"{name}{self.suffix}"
        if self.suffix == ".zarr":
            self.make().to_zarr(path, consolidated=True)
        else:
            self.make().to_netcdf(path, format=self.format)  # type: ignore[call-overload]
        return path


FAMILIES: dict[str, Family] = {
    "regular": Family(regular),
    "south-up": Family(south_up),
    "from-0-to-360": Family(from_0_to_360),
    "over-the-dateline": Family(over_the_dateline),
    "days-of-360": Family(days_of_360),
    "packed": Family(packed),
    "members": Family(members),
    "pressure-levels": Family(pressure_levels),
    "no-time": Family(no_time),
    "projected": Family(projected, crs=LAEA),
    "rotated-pole": Family(rotated_pole, crs=ROTATED),
    "curvilinear": Family(curvilinear),
    "unstructured": Family(unstructured),
    "classic-netcdf": Family(south_up, format="NETCDF3_CLASSIC"),
    "zarr-store": Family(south_up, suffix=".zarr"),
}


def positions(family: Family) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of every cell, degrees, in the order of the trailing dimensions of ``t``."""
    data = family.make()
    if family.crs is not None:
        x, y = np.meshgrid(data.x.values, data.y.values)
        lon, lat = pyproj.Transformer.from_crs(family.crs, "OGC:CRS84", always_xy=True).transform(x, y)
        return np.ravel(lon), np.ravel(lat)
    if data.lon.ndim == 1 and data.lon.dims != data.lat.dims:
        lon, lat = np.meshgrid(data.lon.values, data.lat.values)
        return np.ravel(lon), np.ravel(lat)
    return np.ravel(data.lon.values), np.ravel(data.lat.values)
