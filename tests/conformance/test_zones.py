"""Tables of zones next to exactextract and rasterstats: the same means, and what each costs in CPU."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Clients

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600, func_only=True)]

ZONES, STEPS = 177, 60

THEIRS = """
import json, sys, time
import numpy as np
from exactextract import exact_extract
from exactextract.feature import JSONFeatureSource
from exactextract.raster import NumPyRasterSource
from rasterstats import zonal_stats
from affine import Affine
values = np.load(sys.argv[1])["values"]
zones = json.load(open(sys.argv[2]))["features"]
found, spent = [], []
for step in values:
    raster = NumPyRasterSource(step.astype("f8"), xmin=-180, ymin=-90, xmax=180, ymax=90, name="v", srs_wkt="EPSG:4326")
    begun = time.process_time()
    rows = exact_extract(raster, JSONFeatureSource(zones, srs_wkt="EPSG:4326"), ["m=mean(coverage_weight=area_spherical_m2)"])
    spent.append(time.process_time() - begun)
    found.append([each["properties"]["m"] for each in rows])
begun = time.process_time()
grid = Affine(360 / values.shape[2], 0, -180, 0, -180 / values.shape[1], 90)
zonal_stats(zones, values[0].astype("f8"), affine=grid, stats=["mean"], nodata=-9999)
other = time.process_time() - begun
print(json.dumps({"values": found, "exactextract_s": sum(spent) / len(spent), "rasterstats_s": other}))
"""


def star(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """Return a polygon with 40 to 200 corners, none of them at the edge of a cell, as the border of a country has."""
    turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(40, 200))))
    lengths = rng.uniform(0.5, 1.0, turns.size) * rng.uniform(0.7, 14.0)
    east, north = rng.uniform(-160, 160), rng.uniform(-60, 70)
    ring = [
        [east + float(x), north + float(y)] for x, y in zip(lengths * np.cos(turns), 0.6 * lengths * np.sin(turns), strict=True)
    ]
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return {"type": "Feature", "id": f"z{number}", "properties": {"name": f"Z{number}"}, "geometry": geometry}


def test_means_are_those_of_exactextract_and_cost_less(clients: Clients, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    zones = {"type": "FeatureCollection", "features": [star(rng, number) for number in range(ZONES)]}
    lat, lon = np.arange(89.875, -90, -0.25), np.arange(-179.875, 180, 0.25)
    base = 250 + 40 * np.cos(np.radians(lat))[:, None] + rng.normal(0, 2, (lat.size, lon.size))
    values = (base[None] + rng.normal(0, 1, (STEPS, 1, 1))).astype("f4")
    (tmp_path / "zones.geojson").write_text(json.dumps(zones))
    np.savez(tmp_path / "values.npz", values=values)
    xr.Dataset(
        {"v": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(STEPS), {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    ).to_netcdf(tmp_path / "v.nc")
    done = clients.python(THEIRS, str(tmp_path / "values.npz"), str(tmp_path / "zones.geojson"))
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout)
    cubeport.Catalog.create(tmp_path / "instance").close()
    with cubeport.connect(tmp_path / "instance") as service:
        request = IngestionRequest(dataset_id="v", template={"period_type": "daily"})  # type: ignore[arg-type]
        made = service.ingest_here(request, FileOptions(files=(str(tmp_path / "v.nc"),)))
        assert made.status == "completed", made.error
        service.put_zone_set("stars", zones)
        data = service["v"]
        service.put_zone_set("one", {**zones, "features": zones["features"][:1]})
        begun = time.process_time()
        data.open().v.load()
        reading = time.process_time() - begun
        data.table("one", datetime="2020-01-01")  # loads the libraries
        spent = []
        for statistic in ("mean", "max", "mean"):
            begun = time.process_time()
            table = data.table("stars", statistic=statistic)
            spent.append(time.process_time() - begun)
    ours = table.pivot(index="period", columns="zone", values="value")[[f"z{number}" for number in range(ZONES)]].to_numpy()
    np.testing.assert_allclose(ours, np.array(theirs["values"]), rtol=1e-6)
    first, other, again = spent
    ours, exact, raster = 1000 * other / STEPS, 1000 * theirs["exactextract_s"], 1000 * theirs["rasterstats_s"]
    print(
        f"\ns CPU: first {first:.2f}, another statistic {other:.2f}, again {again:.2f}, reading with xarray {reading:.2f}; "
        f"ms a step: ours {ours:.2f}, exactextract {exact:.0f}, rasterstats {raster:.0f}"
    )
    assert ours < exact
    assert ours < raster
    assert again < other
