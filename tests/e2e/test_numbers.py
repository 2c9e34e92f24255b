"""Numbers: files that are put together at random, and every door judged against xarray on the source, over a real socket.

A seed decides the family of the grid, the order and direction of axes, calendars, packing, missing values, further axes and the
cells that are asked for. ``CUBEPORT_SEEDS=100-400`` judges other seeds than those of every run.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import httpx
import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from tests.sample import sample

import cubeport
from cubeport.cubes.pictures.looks import Look
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, start, stop

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

FIRST, LAST = map(int, os.environ.get("CUBEPORT_SEEDS", "0-5").split("-"))
FOUND = (19, 36, 48, 50)
"""Seeds that found something: a comma in a label, two vertical axes, an axis named ``height``."""
SEEDS = tuple(dict.fromkeys((*range(FIRST, LAST + 1), *(() if "CUBEPORT_SEEDS" in os.environ else FOUND))))
CFTIME: dict[str, Any] = {"decode_times": xr.coders.CFDatetimeCoder(use_cftime=True), "decode_timedelta": False}
LON = {"standard_name": "longitude", "units": "degrees_east"}
LAT = {"standard_name": "latitude", "units": "degrees_north"}
POLAR = pyproj.CRS.from_epsg(3413)
ROTATED = pyproj.CRS.from_cf(
    {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
)


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """A file, and what the judge must know about it."""

    data: xr.Dataset
    family: str
    across: tuple[str, ...]
    """The dimensions of the cells."""
    format: str = "NETCDF4"
    crs: pyproj.CRS | None = None
    factor: float = 1.0


def labels_of_longitude(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(1, 7))
    match rng.integers(0, 7):
        case 0:
            return np.arange(-180 + 180 / count, 180, 360 / count)
        case 1:
            return np.arange(0.0, 360, 360 / count)
        case 2:
            return 170.0 + 5 * np.arange(count)
        case 3:
            return 350.0 + 5 * np.arange(count)
        case 4:
            return -20.0 - 7.5 * np.arange(count)
        case 5:
            return np.cumsum(rng.uniform(0.5, 9, count)) - 30
        case _:
            return (345.0 + 10 * np.arange(count)) % 360 if count < 3 else 345.0 + np.arange(count)


def labels_of_latitude(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(1, 6))
    match rng.integers(0, 5):
        case 0:
            found = np.linspace(-90.0, 90, max(count, 2))
        case 1:
            found = -70.0 + 11.25 * np.arange(count)
        case 2:
            found = np.sort(np.degrees(np.arcsin(np.linspace(-0.93, 0.97, max(count, 2)))))
        case 3:
            found = np.array([float(rng.uniform(-60, 60))])
        case _:
            found = 40.0 + 0.25 * np.arange(count)
    return found[::-1].copy() if rng.random() < 0.5 else found


def with_bounds(data: xr.Dataset, name: str) -> xr.Dataset:
    values = data[name].values.astype("f8")
    middle = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
    pair = np.stack([edges[:-1], edges[1:]], axis=1)
    if data[name].attrs.get("standard_name") == "latitude":
        pair = np.clip(pair, -90, 90)
    data[name].attrs["bounds"] = f"{name}_bnds"
    return data.assign({f"{name}_bnds": ((name, "nv"), pair)})


CLOCKS = (
    ("days since 0001-01-01", (730121.0, 730122, 730500, 731000)),
    ("hours since 1900-01-01 00:00:00", (0.0, 6, 12, 36)),
    ("seconds since 1970-01-01", (0.0, 86400, 90000, 1e6)),
    ("days since 2000-02-28", (0.0, 1, 2, 31)),
    ("minutes since 2020-06-01T00:30:00Z", (30.0, 60, 61, 2000)),
)


def made(seed: int) -> Made:
    """Return the file of a seed. Its values are stored counting up, so each tells its cell."""
    rng = np.random.default_rng(seed)
    family = str(rng.choice(["straight", "straight", "straight", "polar", "rotated", "curvilinear", "mesh"]))
    coords: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    attributes: dict[str, Any] = {"units": "K"}
    crs, factor, extras = None, 1.0, []
    if family == "straight":
        x, y = [("lon", "lat"), ("longitude", "latitude"), ("X", "Y")][int(rng.integers(0, 3))]
        kind = str(rng.choice(["f8", "f4"]))
        coords |= {x: (x, labels_of_longitude(rng).astype(kind), LON), y: (y, labels_of_latitude(rng).astype(kind), LAT)}
        across = (y, x)
    elif family in ("polar", "rotated"):
        x, y, crs = "x", "y", POLAR if family == "polar" else ROTATED
        factor = 1000.0 if family == "polar" else 1.0
        step = 50.0 if family == "polar" else 2.0
        columns = (-200 if family == "polar" else -5) + step * np.arange(int(rng.integers(2, 6)))
        rows = (-900 if family == "polar" else 3) + step * np.arange(int(rng.integers(2, 6)))
        rows = rows[::-1].copy() if rng.random() < 0.5 else rows
        names = ("projection_x_coordinate", "projection_y_coordinate") if family == "polar" else ("grid_longitude", "grid_latitude")
        unit = "km" if family == "polar" else "degrees"
        coords |= {x: (x, columns, {"standard_name": names[0], "units": unit})}
        coords |= {y: (y, rows, {"standard_name": names[1], "units": unit})}
        attributes["grid_mapping"] = "crs"
        extras.append(("crs", ((), np.int32(0), crs.to_cf())))
        across = (y, x)
    elif family == "curvilinear":
        j, i = np.meshgrid(np.arange(int(rng.integers(2, 5))), np.arange(int(rng.integers(2, 6))), indexing="ij")
        west = float(rng.choice([10.0, 352.0, -6.0, 172.0]))
        coords |= {"lon": (("j", "i"), west + 2 * i + 0.5 * j, LON), "lat": (("j", "i"), 40.0 + 2 * j - 0.25 * i, LAT)}
        across = ("j", "i")
        attributes["coordinates"] = "lat lon"
    else:
        count = int(rng.integers(3, 9))
        turn = rng.permutation(count)
        coords |= {"lon": ("cell", (5.0 * turn - 12), LON), "lat": ("cell", 3.0 * turn - 10 + 2 * (turn % 2), LAT)}
        across = ("cell",)
        attributes["coordinates"] = "lat lon"
    lengths = {name: value[1].shape[0] for name, value in coords.items() if isinstance(value[0], str) and name in across}
    lengths |= {"j": j.shape[0], "i": i.shape[1]} if family == "curvilinear" else {}
    lengths |= {"cell": count} if family == "mesh" else {}
    sizes |= {each: lengths[each] for each in across}
    clock, calendar = (
        CLOCKS[int(rng.integers(0, len(CLOCKS)))],
        str(rng.choice(["standard", "noleap", "360_day", "julian", "all_leap", "proleptic_gregorian"])),
    )
    timed = rng.random()
    described = {"units": clock[0], "calendar": calendar, "standard_name": "time"}
    if timed < 0.75:
        count = int(rng.integers(1, 5))
        kind = str(rng.choice(["f8", "i4"]))
        coords["time"] = ("time", np.array(clock[1][:count]).astype(kind), described)
        sizes["time"] = count
    elif timed < 0.9:
        coords["time"] = ((), np.float64(clock[1][1]), described)
    further = rng.choice(["depth", "height", "member", "model", "wave"], size=int(rng.integers(0, 3)), replace=False)
    for name in map(str, further):
        count = int(rng.integers(1, 4))
        sizes[name] = count
        match name:
            case "depth":
                values = np.array([0.0, 10, 50])[:count] if rng.random() < 0.5 else -np.array([5.0, 10, 200])[:count]
                coords[name] = (name, values, {"units": "m", "positive": "down", "standard_name": "depth"})
            case "height":
                coords[name] = (name, np.array([2.0, 10, 100], "f4")[:count], {"units": "m", "positive": "up", "axis": "Z"})
                if "depth" in sizes:
                    coords[name] = (name, np.arange(count), {"units": "1"})
            case "member":
                coords[name] = (name, np.array([1, 2, 5], "i4")[:count], {"standard_name": "realization"})
            case "model":
                texts = np.array(["a b", "ü-1", "c,d"], dtype=object)[:count]
                coords[name] = (name, texts, {"long_name": "model"})
            case _:
                coords[name] = (name, np.array([0.25, 0.5, 4.0])[:count], {"units": "Hz", "long_name": "frequency"})
    if rng.random() < 0.3:
        coords["surface"] = ((), np.float32(2.0), {"units": "m", "positive": "up", "long_name": "above ground"})
        attributes["coordinates"] = f"{attributes.get('coordinates', '')} surface".strip()
    dims = [str(each) for each in rng.permutation(list(sizes))]
    if family == "curvilinear" and rng.random() < 0.5:
        dims = [each for each in dims if each not in across] + list(across)
    kind = str(rng.choice(["f4", "f8", "i2", "i4", "u1", "i1", "u2"]))
    total = int(np.prod([sizes[each] for each in dims]))
    numbers = np.arange(total) % (120 if kind[1] == "1" else 30_000)
    stored = numbers.reshape([sizes[each] for each in dims]).astype(kind)
    if rng.random() < 0.5:
        attributes["_FillValue"] = stored.dtype.type(7)
    if rng.random() < 0.3:
        attributes["missing_value"] = attributes.get("_FillValue", stored.dtype.type(11))
    if kind[0] != "f" and rng.random() < 0.5:
        attributes |= {"scale_factor": float(rng.choice([0.5, -0.25, 0.01])), "add_offset": float(rng.choice([0.0, 100.0]))}
        if rng.random() < 0.5:
            attributes |= {name: np.float32(attributes[name]) for name in ("scale_factor", "add_offset")}
    if kind == "i1" and rng.random() < 0.5:
        attributes["_Unsigned"] = "true"
        stored = (np.arange(total) % 250).astype("u1").view("i1").reshape(stored.shape)
    if rng.random() < 0.2:
        attributes["valid_range"] = np.array([0, 100], kind)
    data = xr.Dataset({"t": (dims, stored, attributes), **dict(extras)}, coords)
    if rng.random() < 0.4:
        for name in across:
            if name in data.coords and data[name].ndim == 1 and data.sizes[name] > 1 and family == "straight":
                data = with_bounds(data, name)
    if rng.random() < 0.3 and data.sizes.get("time", 0) > 1:
        data = with_bounds(data, "time")
    old = kind[0] != "u" and "model" not in sizes and rng.random() < 0.25
    return Made(data, family, across, "NETCDF3_CLASSIC" if old and kind != "f16" else "NETCDF4", crs, factor)


def write(it: Made, path: Path) -> None:
    for variable in it.data.variables.values():
        variable.encoding["_FillValue"] = variable.attrs.pop("_FillValue", None)
    it.data.to_netcdf(path, format=it.format, engine="netcdf4")


# --- doors ------------------------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
        return [text(each) for each in a.ravel()] == [text(each) for each in b.ravel()]
    return bool(np.allclose(a.astype("f8"), b.astype("f8"), rtol=1e-6, atol=0, equal_nan=True))


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def stamp(moment: Any) -> str:
    return f"{moment.year:04}-{moment.month:02}-{moment.day:02}T{moment.hour:02}:{moment.minute:02}:{moment.second:02}Z"


class Judge:
    """Judges the doors of one dataset."""

    def __init__(self, url: str, name: str, it: Made, path: Path, seed: int) -> None:
        self.url, self.name, self.it = url, name, it
        self.rng = np.random.default_rng(seed + 10_000)
        with xr.open_dataset(path, engine="netcdf4", **CFTIME) as opened:
            self.truth = opened.load()
        self.t = self.truth["t"]
        self.wrong: list[str] = []
        self.asked: Counter[str] = Counter()

    def get(self, path: str, **params: Any) -> httpx.Response:
        return httpx.get(self.url + path, params=params or None, timeout=60, trust_env=False)

    def check(self, door: str, fits: bool, *what: Any) -> None:
        self.asked[door] += 1
        if not fits:
            self.wrong.append(f"{self.name} {door}: {' '.join(map(str, what))[:600]}")

    def all(self) -> list[str]:
        self.whole()
        for _ in range(3):
            at = {each: int(self.rng.integers(0, size)) for each, size in self.t.sizes.items()}
            self.cell(at)
        for _ in range(2):
            self.window()
        return self.wrong

    def whole(self) -> None:
        """The stores, DAP, and the download: every variable with its coordinates."""
        with xr.open_zarr(f"{self.url}/zarr/{self.name}", chunks=None, **CFTIME) as found:
            self.dataset("zarr", found)
        if self.get(f"/zarr-v2/{self.name}/.zmetadata").status_code == 200:
            with xr.open_zarr(f"{self.url}/zarr-v2/{self.name}", chunks=None, zarr_format=2, consolidated=True, **CFTIME) as found:
                self.dataset("zarr-v2", found, some=True)
        with xr.open_dataset(f"{self.url}/dap/{self.name}", engine="netcdf4", **CFTIME) as found:
            self.dataset("dap", found, some=True)
        answer = self.get(f"/datasets/{self.name}/download")
        self.check("download", answer.status_code == 200, answer.status_code, answer.text[:300])
        if answer.status_code == 200:
            with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", **CFTIME) as found:
                self.dataset("download", found)

    def dataset(self, door: str, found: xr.Dataset, *, some: bool = False) -> None:
        for name, truth in self.truth.variables.items():
            if name not in found.variables:
                self.check(door, some and name != "t", name, "is missing")
                continue
            other = found.variables[name]
            self.check(door, other.dims == truth.dims and same(other.values, truth.values), name, other.values, truth.values)

    # --- one cell

    def place(self, at: dict[str, int]) -> tuple[float, float]:
        it = self.it
        if it.crs is not None:
            x, y = (float(self.truth[each].values[at[each]]) * it.factor for each in (it.across[1], it.across[0]))
            lon, lat = pyproj.Transformer.from_crs(it.crs, "OGC:CRS84", always_xy=True).transform(x, y)
        elif it.family == "straight":
            lon, lat = (float(self.truth[each].values[at[each]]) for each in (it.across[1], it.across[0]))
        else:
            index = tuple(at[each] for each in it.across)
            lon, lat = float(self.truth["lon"].values[index]), float(self.truth["lat"].values[index])
        return (lon + 180) % 360 - 180, lat

    def chosen(self, at: dict[str, int]) -> dict[str, str]:
        """Return ``datetime`` and ``subset`` for one cell."""
        found: dict[str, str] = {}
        subsets = []
        for name in self.t.dims:
            if name in self.it.across:
                continue
            label = self.truth[name].values[at[name]]
            if name == "time":
                found["datetime"] = stamp(label)
            elif self.truth[name].dtype.kind in "OUS":
                subsets.append(f'{name}("{label}")')
            else:
                subsets.append(f"{name}({label!r})" if not hasattr(label, "item") else f"{name}({label.item()!r})")
        return found | ({"subset": ",".join(subsets)} if subsets else {})

    def cell(self, at: dict[str, int]) -> None:
        truth = float(self.t.isel(at).values)
        lon, lat = self.place(at)
        chosen = self.chosen(at)
        known = not np.isnan(truth)
        point = self.get(f"/ogcapi/collections/{self.name}/position", coords=f"POINT({lon!r} {lat!r})", **chosen)
        got: Any = point.text[:300]
        if point.status_code == 200:
            document = point.json()
            parts = document.get("coverages", [document])
            got = [each for part in parts for each in part["ranges"]["t"]["values"]]
            fits = len(got) == 1 and (got[0] is None if not known else got[0] is not None and np.isclose(got[0], truth, rtol=1e-6))
        else:
            fits = False
        self.check("position", bool(fits), point.status_code, got, truth, at, chosen)
        for door in ("csv", "netcdf", "zarr"):
            answer = self.get(f"/ogcapi/collections/{self.name}/position", coords=f"POINT({lon!r} {lat!r})", f=door, **chosen)
            self.check(f"position {door}", answer.status_code == 200, answer.status_code, answer.text[:300])
            if answer.status_code == 200 and door == "csv":
                last = answer.text.strip().splitlines()[-1].split(",")
                header = answer.text.splitlines()[0].split(",")
                text = last[header.index("t") - len(header)]
                fits = text == "" if not known else text != "" and np.isclose(float(text), truth, rtol=1e-6)
                self.check("position csv", bool(fits), answer.text, truth)
            elif answer.status_code == 200 and door == "netcdf":
                with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", **CFTIME) as found:
                    self.check("position netcdf", same(found["t"].values.ravel(), [truth]), found["t"].values, truth)
        if abs(lat) < 89.9:
            self.around(at, lon, lat, truth, chosen)
        self.table(at, lon, lat, truth, chosen)
        self.map(at, lon, lat, truth)

    def table(self, at: dict[str, int], lon: float, lat: float, truth: float, chosen: dict[str, str]) -> None:
        """A zone around the middle of a cell and inside it: its mean, its least and its greatest value are that of the cell."""
        half = 1e-4
        south, north = max(lat - half, -90.0), min(lat + half, 90.0)
        ring = [[lon - half, south], [lon + half, south], [lon + half, north], [lon - half, north], [lon - half, south]]
        zone = {"type": "Feature", "id": "here", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        query = {"statistic": "mean,min,max,count", "variables": "t", "f": "json", "period": "as-stored", **chosen}
        answer = httpx.post(
            f"{self.url}/datasets/{self.name}/table", params=query, json={"type": "FeatureCollection", "features": [zone]},
            headers={"Content-Type": "application/geo+json"}, timeout=60, trust_env=False,
        )  # fmt: skip
        if answer.status_code != 200:
            # Positions without corners have no area, and an axis of one label without bounds has no edges.
            without = any(words in answer.text for words in ("positions without cells", "have no width", "one position"))
            self.check("table", without, answer.status_code, answer.text[:300], query)
            return
        rows = {row["statistic"]: row for row in answer.json()["rows"]}
        for name in ("mean", "min", "max"):
            value = rows[name]["value"]
            fits = value is None if np.isnan(truth) else value is not None and np.isclose(value, truth, rtol=1e-6)
            self.check(f"table {name}", bool(fits), value, truth, at, query)

    def around(self, at: dict[str, int], lon: float, lat: float, truth: float, chosen: dict[str, str]) -> None:
        """Small regions and a short line around the middle of a cell: each has this cell alone."""
        half = 1e-4
        west, south, east, north = (f"{each:.9f}" for each in (lon - half, lat - half, lon + half, lat + half))
        ring = f"POLYGON(({west} {south},{east} {south},{east} {north},{west} {north},{west} {south}))"
        line = f"LINESTRING({west} {lat!r},{east} {lat!r})"  # a row without edges is met only there
        for kind, query in (
            ("area", {"coords": ring}),
            ("cube", {"bbox": f"{west},{south},{east},{north}"}),
            ("radius", {"coords": f"POINT({lon:.9f} {lat:.9f})", "within": "20", "within-units": "m"}),
            ("trajectory", {"coords": line}),
            ("corridor", {"coords": line, "corridor-width": "10", "width-units": "m"}),
        ):
            answer = self.get(f"/ogcapi/collections/{self.name}/{kind}", **query, **chosen)
            if answer.status_code != 200:
                self.check(kind, False, answer.status_code, answer.text[:300], query, chosen)
                continue
            document = answer.json()
            values = [each for part in document.get("coverages", [document]) for each in part["ranges"]["t"]["values"]]
            known = [each for each in values if each is not None]
            wanted = [] if np.isnan(truth) else [truth]
            self.check(kind, len(known) == len(wanted) and np.allclose(known, wanted, rtol=1e-6), values, truth, at, query, chosen)

    def map(self, at: dict[str, int], lon: float, lat: float, truth: float) -> None:
        """GetFeatureInfo and the colour of the pixel."""
        root = ET.fromstring(self.get(f"/wms/{self.name}", REQUEST="GetCapabilities").content)
        wms = "{http://www.opengis.net/wms}"
        layer = next(each for each in root.iter(f"{wms}Layer") if each.findtext(f"{wms}Name") == "t")
        offered = [(str(each.get("name")), str(each.text)) for each in layer.findall(f"{wms}Dimension")]
        self.check("capabilities", len(dict(offered)) == len(offered), offered)
        named = {name for name, _ in offered}
        (upright,) = [each for each in ("depth", "height") if each in self.t.dims and each not in named][:1] or [""]
        asked = {"LAYERS": "t", "QUERY_LAYERS": "t", "CRS": "CRS:84", "WIDTH": "3", "HEIGHT": "3", "STYLES": "raster/gray"}
        half = 1e-5
        box = (lon - half, max(lat - half, -90.0), lon + half, min(lat + half, 90.0))
        asked |= {"BBOX": ",".join(map(repr, box)), "I": "1", "J": "1", "COLORSCALERANGE": "-50,350", "TRANSPARENT": "TRUE"}
        for name, labels in offered:
            axis = upright if name == "elevation" else name
            if axis not in at:
                continue
            label = self.truth[axis].values[at[axis]]
            value = labels.split(",")[at[axis]] if "/" not in labels else stamp(label)
            self.check("capabilities", name == "time" or unquote(value) == str(label), name, value, label)
            asked[name if name in ("time", "elevation") else f"DIM_{name}"] = value if self.rng.random() < 0.5 else unquote(value)
        answer = self.get(f"/wms/{self.name}", REQUEST="GetFeatureInfo", **asked)
        if answer.status_code != 200:
            self.check("feature info", False, answer.status_code, answer.text[:400], asked)
            return
        value = answer.json()["features"][0]["properties"]["value"]
        known = not np.isnan(truth)
        fits = value is None if not known else value is not None and np.isclose(value, truth, rtol=1e-6)
        self.check("feature info", bool(fits), value, truth, at, asked)
        drawn = self.get(f"/wms/{self.name}", REQUEST="GetMap", FORMAT="image/png", **asked)
        self.check("map", drawn.status_code == 200, drawn.text[:300] if drawn.status_code != 200 else "")
        if drawn.status_code != 200:
            return
        with rasterio.open(io.BytesIO(drawn.content)) as opened:
            (band,), table = opened.read(), opened.colormap(1)
        look = Look("gray", -50.0, 350.0)
        seen = table.get(int(band[1, 1]), (0, 0, 0, 0))
        if known:
            wanted = tuple(look.colours()[int(look.classes(np.array([truth], "f8"))[0])].tolist())
            self.check("colour", seen[:3] == wanted and seen[3] == 255, seen, wanted, truth)
        else:
            self.check("colour", seen[3] == 0, seen, "missing")

    # --- windows

    def window(self) -> None:
        """A window by labels (coverage) and one by indices (griddap, DAP)."""
        spans = {}
        for name, size in self.t.sizes.items():
            a = int(self.rng.integers(0, size))
            spans[name] = (a, int(self.rng.integers(a, size)))
        part = self.t.isel({name: slice(a, b + 1) for name, (a, b) in spans.items()})
        brackets = "".join(f"[{a}:{b}]" for a, b in spans.values())
        raw = self.get(f"/dap/{self.name}.ascii?t{brackets}")
        self.check("dap ascii", raw.status_code == 200, raw.text[:300])
        if self.it.family in ("straight", "polar", "rotated"):
            self.griddap(part, brackets)
        subsets = []
        for name, (a, b) in spans.items():
            values = self.truth[name].values if name in self.truth.coords else None
            if values is None or name == "time" or self.truth[name].ndim != 1 or (self.it.crs is None and name in self.it.across):
                continue
            if values.dtype.kind in "OUS":
                subsets.append(f'{name}("{values[a]}")')
                part = part.isel({name: [0]})
            elif np.all(np.diff(values) > 0) or np.all(np.diff(values) < 0):
                low, high = sorted((values[a].item(), values[b].item()))
                subsets.append(f"{name}({low!r}:{high!r})")
            else:
                subsets.append(f"{name}({values[a].item()!r})")
                part = part.isel({name: [0]})
        query: dict[str, str] = {"subset": ",".join(subsets)} if subsets else {}
        if "time" in self.t.dims:
            a, b = spans["time"]
            times = self.truth["time"].values
            query["datetime"] = f"{stamp(times[a])}/{stamp(times[b])}"
        wanted = part
        if self.it.crs is None:
            wanted = self.t.isel(
                {n: slice(spans[n][0], spans[n][1] + 1) if n not in self.it.across else slice(None) for n in self.t.dims}
            )
            for name in part.dims:
                if name not in self.it.across and part.sizes[name] != wanted.sizes[name]:
                    wanted = wanted.isel({name: [0]})
        answer = self.get(f"/ogcapi/collections/{self.name}/coverage", f="netcdf", **query)
        self.check("coverage netcdf", answer.status_code == 200, answer.status_code, answer.text[:300], query)
        if answer.status_code == 200:
            with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", **CFTIME) as found:
                mine = found["t"]
                for name in self.t.dims:
                    if name not in mine.dims:
                        mine = mine.expand_dims(name)
                mine = mine.transpose(*self.t.dims)
                self.check("coverage netcdf", same(mine.values, wanted.values), query, mine.values, wanted.values)
        table = self.get(f"/ogcapi/collections/{self.name}/coverage", f="csv", **query)
        self.check("coverage csv", table.status_code == 200, table.status_code, table.text[:300], query)
        if table.status_code == 200:
            rows = table.text.strip().splitlines()
            column = rows[0].split(",").index("t") - len(rows[0].split(","))
            values = sorted(float(each.split(",")[column]) for each in rows[1:] if each.split(",")[column] != "")
            truth = sorted(each for each in wanted.values.ravel().astype("f8").tolist() if each == each)
            self.check("coverage csv", len(rows) - 1 == wanted.size and same(values, truth), query, values[:20], truth[:20])
        document = self.get(f"/ogcapi/collections/{self.name}/coverage", f="json", **query)
        self.check("coverage json", document.status_code == 200, document.status_code, document.text[:300], query)
        if document.status_code == 200:
            parts = document.json()
            values = [each for one in parts.get("coverages", [parts]) for each in one["ranges"]["t"]["values"]]
            mine_ = sorted(each for each in values if each is not None)
            truth = sorted(each for each in wanted.values.ravel().astype("f8").tolist() if each == each)
            self.check("coverage json", same(mine_, truth) and len(values) == wanted.size, query, mine_[:20], truth[:20])

    def griddap(self, part: xr.DataArray, brackets: str) -> None:
        answer = self.get(f"/griddap/{self.name}.nc?t{brackets}")
        self.check("griddap", answer.status_code == 200, answer.status_code, answer.text[:300], brackets)
        if answer.status_code == 200:
            with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", **CFTIME) as found:
                mine = found["t"]
                for name in part.dims:
                    if name not in mine.dims:
                        mine = mine.expand_dims(name)
                self.check("griddap", same(mine.transpose(*part.dims).values, part.values), brackets, mine.values, part.values)


# --- the test ---------------------------------------------------------------------------------------------------------


@dataclass
class Published:
    """The files of all seeds, published."""

    server: Server
    made: dict[int, tuple[Made, Path]]
    refused: dict[int, str]


@pytest.fixture(scope="module")
def all_seeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("numbers") / "instance"
    cubeport.Catalog.create(root).close()
    kept: dict[int, tuple[Made, Path]] = {}
    refused: dict[int, str] = {}
    with cubeport.connect(root) as service, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in SEEDS:
            it, path = made(seed), root.parent / f"s{seed}.nc"
            write(it, path)
            done = service.ingest_here(IngestionRequest(dataset_id=f"s{seed}"), FileOptions(files=(str(path),)))
            if done.status == "completed":
                kept[seed] = it, path
            else:
                refused[seed] = str(done.error)
    process, url = start(root)
    yield Published(Server(url, root, process), kept, refused)
    stop(process)


def test_every_file_is_published(all_seeds: Published) -> None:
    assert all_seeds.refused == {}


@pytest.mark.parametrize("seed", sample(SEEDS, every=6))
def test_every_door_has_the_numbers_of_the_source(all_seeds: Published, seed: int) -> None:
    if seed not in all_seeds.made:
        pytest.skip(all_seeds.refused[seed])
    it, path = all_seeds.made[seed]
    judge = Judge(all_seeds.server.url, f"s{seed}", it, path, seed)
    wrong = judge.all()
    assert not wrong, "\n".join([*wrong[:12], str(it.data)])
    assert judge.asked["position"] == 3
