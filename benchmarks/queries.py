"""Queries that read values, against the same work in one process: xarray and zarr on the same store, in one run.

    python benchmarks/queries.py [--write docs/performance.md]

Each round asks for the same random places once of the server and once in this process, and compares the values in the first round.
*CPU* is that of the server's threads (``/proc/*/schedstat``) against that of this process; ratios are medians over the rounds.
"""

from __future__ import annotations

import http.client
import io
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import netCDF4
import numpy as np
import orjson
import xarray as xr
from report import arguments, report
from serve import announced, command, cpu_ns, environment, started

HEADING = "## Queries"
LITTLE = 20 << 20
"""The cache of a server that keeps the chunks of one answer, of a cube of 190 MB."""
COMMAND = "python benchmarks/queries.py --write docs/performance.md"


@dataclass(frozen=True)
class Case:
    name: str
    parameters: Callable[[random.Random], dict[str, str]]
    here: Callable[[xr.Dataset, dict[str, str]], bytes | np.ndarray]
    kind: str = "cube"
    gzip: bool = False
    form: str = "netcdf"


def box(rng: random.Random) -> dict[str, str]:
    west, south, day = rng.randint(-179, 90), rng.randint(-89, 0), rng.randint(0, 600)
    start = np.datetime64("2000-01-01") + np.timedelta64(day, "D")
    return {
        "bbox": f"{west + 0.3},{south + 0.3},{west + 80.7},{south + 80.7}",
        "datetime": f"{start}/{start + np.timedelta64(29, 'D')}",
    }


def point(rng: random.Random) -> dict[str, str]:
    return {"coords": f"POINT({rng.randint(-179, 179)} {rng.randint(-89, 89)})"}


def selected(cube: xr.Dataset, parameters: dict[str, str]) -> xr.Dataset:
    west, south, east, north = map(float, parameters["bbox"].split(","))
    start, end = parameters["datetime"].split("/")
    return cube.sel(time=slice(start, end), lat=slice(south - 0.5, north + 0.5), lon=slice(west - 0.5, east + 0.5))


def netcdf(cube: xr.Dataset, parameters: dict[str, str]) -> bytes:
    target = io.BytesIO()
    selected(cube, parameters).load().to_netcdf(target, engine="h5netcdf")
    return target.getvalue()


def covjson(cube: xr.Dataset, parameters: dict[str, str]) -> np.ndarray:
    return selected(cube, parameters).v.values


def series(cube: xr.Dataset, parameters: dict[str, str]) -> np.ndarray:
    lon, lat = map(float, parameters["coords"][6:-1].split())
    return cube.v.sel(lon=lon, lat=lat, method="nearest").values


def area(rng: random.Random) -> dict[str, str]:
    west, south, day = rng.randint(-179, 130), rng.randint(-89, 40), rng.randint(0, 600)
    corners = ((0, 0), (40, 0), (40, 40), (0, 40), (0, 0))
    start = np.datetime64("2000-01-01") + np.timedelta64(day, "D")
    return {
        "coords": f"POLYGON(({', '.join(f'{west + x - 0.5} {south + y - 0.5}' for x, y in corners)}))",
        "datetime": f"{start}/{start + np.timedelta64(29, 'D')}",
    }


def inside(cube: xr.Dataset, parameters: dict[str, str]) -> np.ndarray:
    """Return the values of the area, which is a box on this grid."""
    numbers = [float(each) for each in parameters["coords"].strip("POLYGN()").replace(",", " ").split()]
    start, end = parameters["datetime"].split("/")
    west, east, south, north = min(numbers[::2]), max(numbers[::2]), min(numbers[1::2]), max(numbers[1::2])
    return cube.v.sel(time=slice(start, end), lat=slice(south, north), lon=slice(west, east)).values


COLD = (
    Case("area of 40 × 40 cells, 30 steps, as CoverageJSON; here the values alone", area, inside, kind="area", form="covjson"),
    Case("series of 730 steps as CoverageJSON; here the values alone", point, series, kind="position", form="covjson"),
)
"""Asked of a server that keeps little, so that nearly each chunk is read and decoded, as it is here."""

CASES = (
    Case("cube 30 × 81 × 81 as NetCDF", box, netcdf),
    Case("the same as CoverageJSON; here the values alone", box, covjson, form="covjson"),
    Case("the same, gzip", box, covjson, form="covjson", gzip=True),
    Case("series of 730 steps as CoverageJSON; here the values alone", point, series, kind="position", form="covjson"),
)


def make_instance(folder: Path) -> tuple[Path, Path]:
    """Ingest two years of a field of 1°, smooth with noise; return the instance and the served tree."""
    source, shape = folder / "cube.nc", (730, 181, 360)
    rng = np.random.default_rng(1)
    with netCDF4.Dataset(source, "w") as made:
        for name, size in zip(("time", "lat", "lon"), shape, strict=True):
            made.createDimension(name, size)
        clock, lat, lon = (made.createVariable(name, "f8", (name,)) for name in ("time", "lat", "lon"))
        clock.units, clock.standard_name = "days since 2000-01-01", "time"
        lat.units, lon.units = "degrees_north", "degrees_east"
        clock[:], lat[:], lon[:] = np.arange(shape[0]), np.arange(-90, 91), np.arange(-180, 180)
        field = made.createVariable("v", "f4", ("time", "lat", "lon"))
        field.units = "K"
        smooth = 280 + 20 * np.cos(np.radians(np.arange(-90, 91)))[:, None] + np.zeros(360)
        for day in range(shape[0]):
            field[day] = (smooth + rng.normal(size=shape[1:])).round(2).astype("f4")
    instance = folder / "instance"
    command([sys.executable, "-m", "cubeport", "init", str(instance)])
    command([sys.executable, "-m", "cubeport", "ingest", str(source), "--id", "cube", "--instance", str(instance)])
    [root] = instance.glob("data/store/cube/*/cube.zarr")
    return instance, root


def ask(connection: http.client.HTTPConnection, case: Case, parameters: dict[str, str]) -> bytes:
    query = urlencode({**parameters, "f": case.form})
    headers = {"Accept-Encoding": "gzip"} if case.gzip else {}
    connection.request("GET", f"/ogcapi/collections/cube/{case.kind}?{query}", headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content[:500]
    return content


def check(case: Case, content: bytes, here: bytes | np.ndarray) -> None:
    """Compare the values of both answers."""
    if case.form == "netcdf":
        with (
            xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as ours,
            xr.open_dataset(io.BytesIO(here), engine="h5netcdf") as theirs,
        ):
            np.testing.assert_array_equal(ours.v.values, theirs.v.values)
    elif not case.gzip:
        told = np.array(orjson.loads(content)["ranges"]["v"]["values"], "f4")
        np.testing.assert_array_equal(told, np.ravel(here))


def run(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        instance, root = make_instance(Path(name))
        arguments = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
        with started(arguments) as process:
            connection = http.client.HTTPConnection(*announced(process))
            began, cpu = time.perf_counter(), cpu_ns(process.pid)
            ask(connection, CASES[0], box(random.Random(99)))
            first = f"{(time.perf_counter() - began) * 1e3:.0f} ms ({(cpu_ns(process.pid) - cpu) / 1e6:.0f} ms of CPU)"
            cube = xr.open_zarr(root)
            rows = [measured(case, connection, process.pid, cube, rounds) for case in CASES]
        with started(arguments, env=environment(CUBEPORT_SERVER__CACHE_BYTES=str(LITTLE))) as process:
            connection = http.client.HTTPConnection(*announced(process))
            ask(connection, COLD[0], area(random.Random(99)))
            cold = [measured(case, connection, process.pid, cube, rounds) for case in COLD]
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores shared with other work, median of {rounds} rounds"
    return "\n".join(
        [
            "| query | answered after, ms | server CPU, ms | here, ms | here CPU, ms | ratio (CPU) | bytes |",
            "|---|--:|--:|--:|--:|--:|--:|",
            *rows,
            *(row.replace("| ", "| cold: ", 1) for row in cold),
            "",
            "*Here* is xarray on the same store in one process, without a server. "
            f"The first NetCDF answer after the start takes {first}. Places are random, so most chunks are decoded again; "
            f"*cold* is a server whose cache keeps a tenth of them. {python}.",
        ]
    )


def measured(case: Case, connection: Any, process: int, cube: xr.Dataset, rounds: int) -> str:
    rng = random.Random(case.name)
    found: list[tuple[float, float, float, float, int]] = []
    for number in range(rounds):
        parameters = case.parameters(rng)
        cpu, clock = cpu_ns(process), time.perf_counter()
        content = ask(connection, case, parameters)
        wall, ours = time.perf_counter() - clock, (cpu_ns(process) - cpu) / 1e9
        cpu_here, clock = time.process_time(), time.perf_counter()
        here = case.here(cube, parameters)
        wall_here, cpu_here = time.perf_counter() - clock, time.process_time() - cpu_here
        if number == 0:
            check(case, content, here)
        found.append((wall, ours, wall_here, cpu_here, len(content)))
    wall, ours, wall_here, cpu_here, size = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(each[1] / each[3] for each in found)
    waited = statistics.median(each[0] / each[2] for each in found)
    return (
        f"| {case.name} | {wall * 1e3:.1f} | {ours * 1e3:.1f} | {wall_here * 1e3:.1f} | {cpu_here * 1e3:.1f} | "
        f"{waited:.2f} ({ratio:.2f}) | {size:,.0f} |"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    table = run(options.rounds)
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
