"""Metadata out of NetCDF and Zarr: read when a file is added, searched afterwards. Needs `pip install "cubeport[netcdf,zarr]"`."""

from pathlib import Path

import numpy as np
import xarray as xr

from cubeport import Catalog


def sea(year: int, south: float) -> xr.Dataset:
    """Return twelve months of a made-up sea surface temperature on 4 x 6 cells."""
    time = np.array([f"{year}-{month:02}-01" for month in range(1, 13)], "datetime64[ns]")
    lat = np.arange(south, south + 4)
    values = np.round(15 + 10 * np.sin(np.arange(12))[:, None, None] + np.zeros((12, 4, 6)), 2)
    coordinates = {
        "time": time,
        "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", np.arange(-10.0, -4.0), {"units": "degrees_east", "standard_name": "longitude"}),
    }
    sst = (("time", "lat", "lon"), values, {"units": "degC", "standard_name": "sea_surface_temperature"})
    return xr.Dataset({"sst": sst}, coordinates, {"Conventions": "CF-1.8", "institution": "An example"})


Path("work").mkdir()
sea(2018, 40.0).to_netcdf("work/north_2018.nc")
sea(2019, -40.0).to_zarr("work/south_2019.zarr", zarr_format=3, consolidated=False)

with Catalog.create("work/catalog") as catalog:
    # A child process, which may read this one file and nothing else, opens what comes from outside.
    north = catalog.add_file("work/north_2018.nc", extract_metadata=True, title="North").record
    south = catalog.add_file("work/south_2019.zarr", extract_metadata=True, title="South").record

    print("time:", north.time.start.date(), "to", north.time.end.date())
    print("bbox:", list(north.bbox))
    print("dimensions:", north.metadata["netcdf"]["dimensions"])
    print("a variable:", north.metadata["netcdf"]["variables"]["sst"]["attributes"]["standard_name"])
    print("Zarr:", south.metadata["zarr"]["dimensions"], "consolidated:", south.metadata["zarr"]["consolidated"])

    print("in 2019:", [record.title for record in catalog.search(time="2019")])
    print("off Portugal:", [record.title for record in catalog.search(bbox=(-9.5, 40, -8, 42))])
    units = "netcdf.variables.sst.attributes.units=degC"
    print("in degC:", [record.title for record in catalog.search(units)])

    with north.open() as opened:
        print("opened:", type(opened).__name__, dict(opened.sizes), float(opened.sst[0, 0, 0]))
