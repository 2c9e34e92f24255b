"""An OpenGHG-like store on a catalog: keys, versions, search by keywords, xarray. Needs `pip install "cubeport[zarr]" ./plugin`."""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from cubeport_openghg import CatalogStore, standardise

from cubeport import Catalog
from cubeport.errors import CubeportError

Path("work").mkdir()


def made(name: str, values: list[float]) -> Path:
    """Write hours of a mole fraction as Zarr."""
    time = np.datetime64("2018-01-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "h")
    path = Path("work") / name
    xr.Dataset({"mf": ("time", values)}, {"time": time}).to_zarr(path, zarr_format=3, consolidated=False)
    return path


mhd = {"species": "Methane", "station_id": "MHD", "network": "AGAGE", "inlet_height_magl": "10", "units": "ppb"}
cgo = {"species": "CO2", "site": "CGO", "network": "AGAGE", "inlet": "70m", "units": "ppm", "calibration_scale": "WMO"}

with Catalog.create("work/store") as catalog:
    standardise(catalog, made("first.zarr", [1901.0, 1903.0]), mhd, "2018-01-01")
    standardise(catalog, made("cgo.zarr", [405.0]), cgo, "2018-01-01")
    standardise(catalog, made("second.zarr", [1901.0, 1903.5]), mhd, "2018-01-01")  # the same keys: a new version
    standardise(catalog, Path("work/second.zarr"), mhd, "2018-01-01")  # the same bytes: nothing
    print("records:", catalog.count(statuses=None), "of which current:", catalog.count())
    try:
        standardise(catalog, made("bad.zarr", [1.0]), {**mhd, "station_id": "Mace Head"}, "2018")
    except (CubeportError, ValueError) as problem:
        print("refused:", type(problem).__name__, "and nothing was kept:", catalog.count())

with CatalogStore("work/store") as store:
    print([found["key"] for found in store.search(species="CH4", site="mhd")])
    print([found["site"] for found in store.search(species=["ch4", "co2"], start="2018", end="2019")])
    print(store.search(species="co2")[0]["calibration_scale"], len(store.search(end="2017")))
    (found,) = store.search(site="MHD")
    with store.open(found["uuid"]) as dataset:
        print(dataset.mf.values.tolist())
    versions = store.versions(found["key"])
    with store.open(versions[1]) as dataset:
        print(len(versions), "versions, before:", dataset.mf.values.tolist())
    print("the store only reads:", not any(hasattr(store, verb) for verb in ("add", "update", "delete")))

print("the core knows the domain:", any("openghg" in name for name in sys.modules if name.startswith("cubeport.")))
