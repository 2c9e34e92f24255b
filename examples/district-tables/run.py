"""Values of districts by month, as a spreadsheet, for DHIS2, and against normal. Needs `pip install "cubeport[service]"`."""

import csv
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import xarray as xr

work = Path("work").absolute()
work.mkdir()

# Three years of days: the rain of a day is the number of its month, and 1 mm more in the east.
time = np.arange("2021-01-01", "2024-01-01", dtype="datetime64[D]")
months = time.astype("datetime64[M]").astype(int) % 12 + 1
lat, lon = np.arange(9.75, 5, -0.5), np.arange(0.25, 5, 0.5)
values = months[:, None, None] + (lon > 2.5) + np.zeros((1, lat.size, 1))
rain = xr.DataArray(
    values.astype("f4"), {"time": time.astype("datetime64[ns]"), "lat": lat, "lon": lon}, ("time", "lat", "lon"), name="rain"
)
rain.attrs = {"units": "mm", "standard_name": "precipitation_amount", "cell_methods": "time: sum"}
rain.lat.attrs, rain.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
rain[40] = np.nan  # a day without data, in February 2021
rain.to_netcdf(work / "rain.nc")


def district(code: str, name: str, ring: list) -> dict:
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return {"type": "Feature", "properties": {"code": code, "name": name}, "geometry": geometry}


districts = [
    district("O6uvpzGd5pu", "West", [[0.1, 5.2], [2.5, 5.4], [2.5, 9.1], [0.3, 9.4]]),
    district("fdc6uOvgoji", "East", [[2.5, 5.4], [4.8, 5.1], [4.9, 9.3], [2.5, 9.1]]),
]
(work / "districts.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": districts}))

instance = str(work / "health")
for arguments in (
    ("init", instance, "--quiet"),
    ("ingest", str(work / "rain.nc"), "--id", "rain", "--instance", instance, "--quiet"),
    ("zones", "add", str(work / "districts.geojson"), "--id-property", "code", "--instance", instance),
):
    done = subprocess.run(["cubeport", *arguments], capture_output=True, text=True, check=True)
print(done.stdout.strip())

server = subprocess.Popen(
    ["cubeport", "serve", "--instance", instance, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
try:
    url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

    def table(**parameters: str) -> str:
        query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in parameters.items())
        with urllib.request.urlopen(f"{url}/datasets/rain/table?zones=districts&{query}") as answer:
            return answer.read().decode()

    print("the rain of each month:")
    print(table(period="month", datetime="2021-01/2021-03", f="csv-wide").strip())
    february = next(csv.DictReader(table(period="month", datetime="2021-02").splitlines()))
    print("the share of February that has values:", february["share"])
    print("against the mean of three years, in mm:")
    print(table(period="month", datetime="2021-02", relative_to="2021/2023", f="csv-wide").strip())
    print("for DHIS2:", table(period="month", datetime="2023-12", f="dhis2", data_element="fbfJHSPpUQD"))
    print("what a table of all days would cost:", {k: json.loads(table(estimate="true"))[k] for k in ("rows", "cells", "allowed")})
finally:
    server.terminate()
    server.wait()
