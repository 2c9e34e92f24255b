"""Months become a dataset, which grows by a sync and is read on every face. Needs `pip install "cubeport[service,client]"`."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import xarray as xr

import cubeport

TEMPLATE = """\
id: tas
title: Air temperature
period_type: monthly
license: CC-BY-4.0
source:
  kind: files
  paths: {archive}/tas_{{YYYY}}-{{MM}}.nc
sync: {{kind: temporal}}
"""

work = Path("work").absolute()
archive = work / "archive"
archive.mkdir(parents=True)


def month(number: int) -> None:
    """Write the file of one month of 2024: 280 K and its number everywhere."""
    time = [np.datetime64(f"2024-{number:02}-01", "ns")]
    values = np.full((1, 4, 5), 280 + number, "f4")
    tas = xr.DataArray(values, {"time": time, "lat": [50.0, 55, 60, 65], "lon": [0.0, 5, 10, 15, 20]}, ("time", "lat", "lon"))
    tas.attrs = {"units": "K", "standard_name": "air_temperature"}
    tas.lat.attrs, tas.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    tas.to_dataset(name="tas").to_netcdf(archive / f"tas_2024-{number:02}.nc")


def run(*arguments: str) -> str:
    """Run one command of cubeport and return what it prints, version ids as VERSION."""
    done = subprocess.run(["cubeport", *arguments], capture_output=True, text=True, check=True)
    return re.sub(r"\b[0-9a-f]{8,32}\b", "VERSION", done.stdout).strip()


def get(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return answer.read()


month(1)
month(2)
instance = str(work / "climate")
run("init", instance, "--allow-root", str(archive), "--quiet")
(work / "climate/config/datasets/tas.yaml").write_text(TEMPLATE.format(archive=archive))
print(run("ingest", "tas", "--start", "2024-01", "--instance", instance))
month(3)
run("sync", "tas", "--instance", instance)

server = subprocess.Popen(
    ["cubeport", "serve", "--instance", instance, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
try:
    url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

    cube = cubeport.connect(url)["tas"].open()
    print("Zarr, by cubeport and xarray:", dict(cube.sizes), cube.tas.values[:, 0, 0].tolist())

    collection = json.loads(get(f"{url}/stac/collections/tas"))
    print("STAC:", collection["title"], collection["license"], collection["extent"]["temporal"]["interval"][0])

    point = get(f"{url}/ogcapi/collections/tas/position?coords=POINT(10%2055)&f=csv").decode().splitlines()
    print("OGC API, one place:", [line.split(",")[0][:10] + " " + line.split(",")[-1] for line in point[1:]])

    picture = get(f"{url}/ogcapi/collections/tas/map?width=200")
    print("A map:", picture[:4], "PNG")

    with xr.open_dataset(cubeport.connect(url)["tas"].select(time="2024-03").save(work / "march.nc")) as march:
        print("NetCDF of March:", march.tas.values.mean())
    print("versions:", len(json.loads(get(f"{url}/datasets/tas/versions"))["items"]))
finally:
    server.terminate()
    server.wait()
