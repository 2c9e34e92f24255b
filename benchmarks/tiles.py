"""CPU of map tiles of 256 × 256 pixels at three zooms, next to titiler.xarray and xpublish-tiles, in one run of alternating rounds.

    python benchmarks/tiles.py --peers PEERS/bin/python [--write docs/performance.md]

The peers are in an environment of their own, with the newest releases: python -m venv PEERS && PEERS/bin/pip install
titiler.xarray xpublish-tiles uvicorn. Each is one server process, asked over HTTP, warm. The peers read the Zarr store of our
dataset from the disk, 1,800 × 3,600 cells of float32; we read the same store, and its overviews. Grey levels of all three are
compared with the values.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import xarray as xr
from report import arguments, report

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from wms import LOW, HIGH, STEPS, level, measured  # isort: skip

HEADING = "## Tiles"
COMMAND = "python benchmarks/tiles.py --peers PEERS/bin/python --write docs/performance.md"
PORTS = {"ours": 8770, "titiler.xarray": 8771, "xpublish-tiles": 8772}
TILES = ((0, 0, 0), (2, 1, 2), (5, 10, 17))
"""Zoom, row and column: the world, a sixteenth of it, central Europe."""
OFF = 4
"""A grey that differs by more from that of the nearest cell is another place, whatever way a pixel is made of several cells."""

XPUBLISH = """
import sys
import uvicorn, xarray, xpublish
from xpublish_tiles.xpublish.tiles.plugin import TilesPlugin
data = xarray.open_zarr(sys.argv[1], chunks=None).assign_attrs(_xpublish_id="t")
uvicorn.run(xpublish.Rest({"t": data}, plugins={"tiles": TilesPlugin()}).app, port=int(sys.argv[2]), log_level="error")
"""


def field() -> xr.Dataset:
    lat, lon = np.arange(89.95, -90, -0.1), np.arange(-179.95, 180, 0.1)
    noise = np.random.default_rng(1).normal(0, 0.1, (lat.size, lon.size))
    values = (288 - 40 * np.sin(np.radians(lat))[:, None] ** 2 + 8 * np.cos(np.radians(3 * lon))[None] + noise).astype("float32")
    place = {"standard_name": "latitude", "units": "degrees_north"}, {"standard_name": "longitude", "units": "degrees_east"}
    axes = {"lat": ("lat", lat, place[0]), "lon": ("lon", lon, place[1])}
    return xr.Dataset({"t": (("lat", "lon"), values, {"units": "K"})}, axes)


def truth(data: xr.Dataset, zoom: int, row: int, column: int) -> np.ndarray:
    """Return the grey of the cell at the centre of each pixel, (256, 256), 0 to 255."""
    pixel = (np.arange(256) + 0.5) / 256
    lon = (column + pixel) / 2**zoom * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (row + pixel) / 2**zoom))))
    rows = np.clip(np.floor((90 - lat) / 0.1), 0, 1799).astype(int)
    columns = np.clip(np.floor((lon + 180) / 0.1), 0, 3599).astype(int)
    return (data.t.values[np.ix_(rows, columns)] - LOW) / (HIGH - LOW) * 255


def addresses(store: Path, zoom: int, row: int, column: int) -> dict[str, str]:
    own = f"properties=t&palette=gray&range={LOW:g},{HIGH:g}&steps={STEPS}"
    titiler = f"url={store}&variable=t&rescale={LOW:g},{HIGH:g}"
    xpublish = f"variables=t&style=raster/gray&colorscalerange={LOW:g},{HIGH:g}&width=256&height=256&f=png"
    return {
        "ours": f"/ogcapi/collections/t/map/tiles/WebMercatorQuad/{zoom}/{row}/{column}?{own}",
        "titiler.xarray": f"/tiles/WebMercatorQuad/{zoom}/{column}/{row}.png?{titiler}",
        "xpublish-tiles": f"/datasets/t/tiles/WebMercatorQuad/{zoom}/{row}/{column}?{xpublish}",
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--peers", required=True, help="a Python with titiler.xarray, xpublish-tiles and uvicorn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        data, root = field(), folder / "instance"
        data.to_netcdf(folder / "t.nc")
        cubeport.Catalog.create(root).close()
        with cubeport.connect(root) as service:
            done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(folder / "t.nc"),)))
            assert done.status == "completed", done.error
        (store,) = root.rglob("cube.zarr")
        commands = {
            "ours": [sys.executable, "-m", "cubeport", "serve", "--instance", str(root), "--port", str(PORTS["ours"])],
            "titiler.xarray": [options.peers, "-m", "uvicorn", "titiler.xarray.main:app", "--port", str(PORTS["titiler.xarray"])],
            "xpublish-tiles": [options.peers, "-c", XPUBLISH, str(store), str(PORTS["xpublish-tiles"])],
        }
        client = stack.enter_context(httpx.Client(timeout=120, trust_env=False))
        processes = {}
        for side, command in commands.items():
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.terminate)
            processes[side] = psutil.Process(process.pid)
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    client.get(f"http://127.0.0.1:{PORTS[side]}/")
                    break
                time.sleep(0.1)
        lines = [
            "| zoom | ours, ms CPU | titiler.xarray | × | xpublish-tiles | × | pixels off, of each |",
            "|--:|--:|--:|--:|--:|--:|---|",
        ]
        for zoom, row, column in TILES:
            calls: dict[str, Callable[[], bytes]] = {}
            for side, address in addresses(store, zoom, row, column).items():

                def call(url: str = f"http://127.0.0.1:{PORTS[side]}{address}") -> bytes:
                    answer = client.get(url)
                    assert answer.status_code == 200, (url, answer.text[:600])
                    return answer.content

                calls[side] = call
            expected = truth(data, zoom, row, column)
            off = [float((np.abs(level(call()) - expected) > OFF).mean()) for call in calls.values()]
            found = [each for _, each in measured(*((processes[side], call) for side, call in calls.items()))]
            mine, titiler, xpublish = found
            lines.append(
                f"| {zoom} | {mine:.2f} | {titiler:.1f} | {titiler / mine:.0f} | {xpublish:.1f} | {xpublish / mine:.0f} "
                f"| {', '.join(f'{each:.2%}' for each in off)} |"
            )
            print(lines[-1], flush=True)
    versions = subprocess.run(
        [options.peers, "-c", "from importlib.metadata import version as v; print(v('titiler.xarray'), v('xpublish-tiles'))"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    releases = (
        f"titiler.xarray {versions[0]}, xpublish-tiles {versions[1]}, Python {platform.python_version()}, {os.cpu_count()} cores."
    )
    table = "\n".join(
        [*lines, "", f"{releases} × is the CPU of the other server divided by that of cubeport; the aim is 10 or more."]
    )
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
