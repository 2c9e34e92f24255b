"""CPU of WMS GetMap of 512 × 512 pixels, next to MapServer, in one run of alternating rounds.

    python benchmarks/wms.py

MapServer and its Python module come from Debian (mapserver-bin, python3-mapscript). The same field, 721 × 1440 cells, is read from
our store and from a tiled GeoTIFF. MapServer is one process with its map loaded, asked without HTTP; ours is one `cubeport serve`,
asked over HTTP. CPU is that of the server's process. Grey levels of both are compared with the values.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
import numpy as np
import psutil
import rasterio
import xarray as xr
from rasterio.transform import from_origin

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

PORT = 8766
CALLS = 100
BOXES = {"world": "-90,-180,90,180", "Europe": "30,-20,70,40", "Alps": "44,5,49,16"}
LOW, HIGH, STEPS = 220.0, 320.0, 250

MAPFILE = """
MAP
  NAME grey
  SIZE 512 512
  EXTENT -180 -90 180 90
  UNITS DD
  IMAGETYPE png8
  OUTPUTFORMAT NAME png8 DRIVER "AGG/PNG" MIMETYPE "image/png" IMAGEMODE RGB FORMATOPTION "COMPRESSION=1" END
  PROJECTION "init=epsg:4326" END
  WEB METADATA "wms_enable_request" "*" "wms_srs" "EPSG:4326" "wms_title" "x" "wms_onlineresource" "http://localhost/" END END
  LAYER
    NAME t
    TYPE RASTER
    STATUS ON
    DATA "{data}"
    PROJECTION "init=epsg:4326" END
    PROCESSING "SCALE={low},{high}"
    PROCESSING "SCALE_BUCKETS={steps}"
    PROCESSING "RESAMPLE=NEAREST"
  END
END
"""


def field() -> xr.Dataset:
    lat, lon = np.linspace(90, -90, 721), np.arange(-180, 180, 0.25)
    noise = np.random.default_rng(1).normal(0, 4, (721, 1440))
    values = (288 - 40 * np.sin(np.radians(lat))[:, None] ** 2 + 8 * np.cos(np.radians(3 * lon))[None] + noise).astype("float32")
    return xr.Dataset(
        {"t": (("lat", "lon"), values, {"units": "K"})},
        {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )


CHILD = """
import sys
import mapscript
map_ = mapscript.mapObj(sys.argv[1])
for line in sys.stdin:
    request = mapscript.OWSRequest()
    request.loadParamsFromURL(line.strip())
    mapscript.msIO_installStdoutToBuffer()
    map_.OWSDispatch(request)
    mapscript.msIO_stripStdoutBufferContentHeaders()
    content = mapscript.msIO_getStdoutBufferBytes()
    mapscript.msIO_resetHandlers()
    sys.stdout.buffer.write(len(content).to_bytes(8, "big") + content)
    sys.stdout.buffer.flush()
"""


class MapServer:
    """One process of MapServer with its map file loaded, by its own Python module: no HTTP, no start of a process."""

    def __init__(self, folder: Path, mapfile: Path) -> None:
        settings = folder / "mapserver.conf"
        settings.write_text('CONFIG\n  ENV\n    "MS_MAP_PATTERN" "."\n  END\nEND\n')
        environment = {"MAPSERVER_CONFIG_FILE": str(settings), "PATH": "/usr/bin"}
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-c", CHILD, str(mapfile)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def get(self, query: str) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(query.encode() + b"\n")
        self.process.stdin.flush()
        length = int.from_bytes(self.process.stdout.read(8), "big")
        return self.process.stdout.read(length)


def cpu(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def measured(*sides: tuple[psutil.Process, Callable[[], bytes]]) -> list[tuple[float, float]]:
    """Return the median wall time and the CPU time of a call of each side, in ms. The sides take turns, ten calls at a time."""
    spent, walls = [0.0] * len(sides), [list[float]() for _ in sides]
    for _, call in sides:
        call()
    for _ in range(CALLS // 10):
        for side, (process, call) in enumerate(sides):
            before = cpu(process)
            for _ in range(10):
                began = time.perf_counter()
                call()
                walls[side].append(time.perf_counter() - began)
            spent[side] += cpu(process) - before
    return [(1e3 * float(np.median(wall)), 1e3 * each / CALLS) for wall, each in zip(walls, spent, strict=True)]


def level(png: bytes) -> np.ndarray:
    """Return the class of each pixel, 0 to STEPS − 1, from its grey; −1 where it is transparent."""
    with rasterio.MemoryFile(png) as file, file.open() as picture:
        bands = picture.read()
        if picture.count == 1:
            table = np.array([picture.colormap(1).get(n, (0, 0, 0, 255)) for n in range(256)])
            return np.where(table[bands[0]][..., 3] == 0, -1, table[bands[0]][..., 0]).astype(int)
        return bands[0].astype(int)


def main() -> None:
    if subprocess.run(["/usr/bin/python3", "-c", "import mapscript"], capture_output=True, check=False).returncode != 0:
        sys.exit("MapServer is not installed: apt-get install python3-mapscript")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        data = field()
        data.to_netcdf(folder / "t.nc")
        options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
        place = from_origin(-180.125, 90.125, 0.25, 0.25)
        shape = {"height": 721, "width": 1440, "count": 1, "dtype": "float32", "crs": "EPSG:4326", "transform": place}
        with rasterio.open(folder / "t.tif", "w", driver="GTiff", **shape, **options) as file:
            file.write(data.t.values, 1)
        (folder / "t.map").write_text(MAPFILE.format(data=folder / "t.tif", low=LOW, high=HIGH, steps=STEPS))
        root = folder / "instance"
        cubeport.Catalog.create(root).close()
        with cubeport.connect(root) as service:
            done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(folder / "t.nc"),)))
            assert done.status == "completed", done.error
        serving = [sys.executable, "-m", "cubeport", "serve", "--instance", str(root), "--port", str(PORT)]
        ours = stack.enter_context(subprocess.Popen(serving, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        stack.callback(ours.terminate)
        theirs = MapServer(folder, folder / "t.map")
        stack.callback(theirs.process.terminate)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60, trust_env=False))
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if client.get("/ready").status_code == 200:
                    break
            time.sleep(0.1)
        heads = f"{'box':8} {'ours ms':>8} {'CPU':>6} {'MapServer ms':>13} {'CPU':>6} {'wall ×':>7} {'CPU ×':>6}"
        print(f"{heads}  pixels that differ by more than one grey")
        for box, bbox in BOXES.items():
            common = {"SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "LAYERS": "t", "CRS": "EPSG:4326", "BBOX": bbox}
            common |= {"WIDTH": "512", "HEIGHT": "512", "FORMAT": "image/png"}
            own = {**common, "STYLES": "raster/gray", "COLORSCALERANGE": f"{LOW},{HIGH}", "NUMCOLORBANDS": str(STEPS)}
            peer = urlencode({**common, "STYLES": ""})

            def call(query: dict[str, str] = own) -> bytes:
                answer = client.get("/wms/t", params=query)
                assert answer.status_code == 200, answer.text
                return answer.content

            raw = theirs.get(peer)
            if not raw.startswith(b"\x89PNG"):
                sys.exit(raw.decode("latin-1")[:600])
            mine, other = level(call()), level(raw)
            lat, lon = (
                np.float64(each) for each in ((bbox.split(",")[0], bbox.split(",")[2]), (bbox.split(",")[1], bbox.split(",")[3]))
            )
            rows = np.clip(np.floor((90.125 - (lat[1] - (np.arange(512) + 0.5) * (lat[1] - lat[0]) / 512)) / 0.25), 0, 720).astype(
                int
            )
            columns = np.floor((lon[0] + (np.arange(512) + 0.5) * (lon[1] - lon[0]) / 512 + 180.125) / 0.25).astype(int) % 1440
            truth = (data.t.values[np.ix_(rows, columns)] - LOW) / (HIGH - LOW) * 255
            wrong = [float((np.abs(each - truth) > 2).mean()) for each in (mine, other)]
            a, b = measured((psutil.Process(ours.pid), call), (psutil.Process(theirs.process.pid), partial(theirs.get, peer)))
            times = f"{a[0]:8.1f} {a[1]:6.1f} {b[0]:13.1f} {b[1]:6.1f} {a[0] / b[0]:7.2f} {a[1] / b[1]:6.2f}"
            print(f"{box:8} {times}  {wrong[0]:.2%} {wrong[1]:.2%}", flush=True)


if __name__ == "__main__":
    main()
