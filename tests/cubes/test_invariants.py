"""What holds of every dataset, over every real file: the table of docs/explanation/invariants.md, and a fault for each row."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import xarray as xr
from tests.conftest import REALDATA
from tests.cubes.asking import Version
from tests.sample import sample

from cubeport.cubes.cells import exact
from cubeport.cubes.checks import check
from cubeport.cubes.companions import REFERENCES
from cubeport.cubes.description import BoundingBox
from cubeport.cubes.download import period_of
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import IndexRange, Labels, Window, Windows, native_system, time_axis
from cubeport.errors import NotFound, SourceRejected

NAMES = sorted(
    str(path.relative_to(REALDATA))
    for pattern in ("*.nc", "*_multi/*.nc", "*.zarr")
    for path in REALDATA.glob(pattern)
)  # fmt: skip


@pytest.fixture(scope="module", params=sample(NAMES, every=4))
def real(request: pytest.FixtureRequest) -> Iterator[Version]:
    """Each real file that is accepted, open for all rules and closed before the next: two handles of one file crash netCDF-C."""
    path = REALDATA / request.param
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".zarr":
            raw = xr.open_zarr(path, decode_cf=False, chunks=None, consolidated=False)
        else:
            raw = xr.open_dataset(path, decode_cf=False, engine="netcdf4")
        with raw:
            try:
                check(raw)
                version = Version(raw)
            except SourceRejected:
                pytest.skip("the file is refused, for a reason of its own")
            yield version


# --- the invariants -----------------------------------------------------------------------------------------------------


def indices(version: Version, windows: Windows) -> dict[str, list[int]]:
    """Return what is taken along the dimensions of place."""
    return {name: windows.along[name].indices().tolist() for name in horizontal(version) if name in windows.along}


def horizontal(version: Version) -> tuple[str, ...]:
    description = version.description
    if description.cell_dimensions:
        return description.cell_dimensions
    named = (description.spatial.y, description.spatial.x)
    return tuple(axis.dimension for name in named for axis in description.axes if axis.name == name and not axis.scalar)


def some_cells(version: Version, count: int = 12) -> Iterator[tuple[dict[str, int], float, float]]:
    """Yield cells with their longitude and latitude, spread over the grid."""
    spatial, labels = version.description.spatial, version.labels.values
    if spatial.bbox is None or spatial.x is None or spatial.x not in labels:
        return
    x, y = exact(labels[spatial.x]), exact(labels[str(spatial.y)])
    dimensions = horizontal(version)
    if version.description.cell_dimensions:
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & (np.abs(y) <= 90))
        for at in known[:: max(1, known.size // count)]:
            place = np.unravel_index(at, x.shape)
            yield dict(zip(dimensions, map(int, place), strict=True)), float(x[place]), float(y[place])
        return
    if len(dimensions) < 2:
        return
    rows, columns = np.arange(y.size)[:: max(1, y.size // 4)], np.arange(x.size)[:: max(1, x.size // 4)]
    for row in rows.tolist():
        for column in columns.tolist():
            lon, lat = float(x[column]), float(y[row])
            if spatial.family == "projected":
                onto, factor = native_system(version.description)
                lon, lat = onto.transform(lon * factor, lat * factor, direction="INVERSE")
            if np.isfinite(lon) and np.isfinite(lat):
                yield {dimensions[0]: row, dimensions[1]: column}, lon, lat


def same_place(version: Version, windows: Windows, place: dict[str, int]) -> bool:
    """Say whether one cell is taken, and it is that of the place, or one at the very same position."""
    taken = indices(version, windows)
    if taken == {name: [at] for name, at in place.items()}:
        return True
    spatial, labels = version.description.spatial, version.labels.values
    found = {name: each[0] for name, each in taken.items()}
    if version.description.cell_dimensions:
        at, other = (tuple(each[name] for name in version.description.cell_dimensions) for each in (place, found))
        return all(labels[str(name)][at] == labels[str(name)][other] for name in (spatial.x, spatial.y))
    column, other = (each[version.description.axis(str(spatial.x)).dimension] for each in (place, found))
    lon = labels[str(spatial.x)].astype("f8")
    return abs((lon[column] - lon[other] + 180) % 360 - 180) < 1e-3


def holds_place(version: Version) -> None:
    """A value's place in an answer is its place in the source: the cell at a position is found by that position."""
    for place, lon, lat in some_cells(version):
        windows = version.edr("position", coords=f"POINT({(lon + 180) % 360 - 180!r} {min(max(lat, -90.0), 90.0)!r})")
        assert same_place(version, windows, place), (place, lon, lat, indices(version, windows))


def holds_area(version: Version) -> None:
    """The area of a box is the cube of the same box; on projected grids, whose cubes reach past the box, it is in it."""
    for box in some_boxes(version):
        west, _south, east, _north = box
        if west > east:
            continue
        try:
            cube = version.edr("cube", bbox=",".join(map(repr, box)))
        except NotFound:
            with pytest.raises(NotFound):
                version.edr("area", coords=shapely.to_wkt(shapely.box(*box), rounding_precision=-1))
            continue
        area = version.edr("area", coords=shapely.to_wkt(shapely.box(*box), rounding_precision=-1))
        for ours, theirs in zip(indices(version, area).values(), indices(version, cube).values(), strict=True):
            if version.description.spatial.family == "projected":
                assert set(ours) <= set(theirs)
            else:
                assert ours == theirs, box
        if version.description.spatial.family != "projected":
            assert (area.mask is None) == (cube.mask is None)
            assert area.mask is None or np.array_equal(area.mask.inside, cube.mask.inside)


def some_boxes(version: Version) -> Iterator[BoundingBox]:
    bbox = version.description.spatial.bbox
    if bbox is None or version.description.spatial.family == "none":
        return
    west, south, east, north = bbox
    width = (east - west) % 360 or 360.0
    number = np.random.default_rng(11)
    for _ in range(6):
        a, b = np.sort(west + width * number.random(2))
        low, high = np.sort(south + (north - south) * number.random(2))
        yield tuple(round(float(each), 7) for each in ((a + 180) % 360 - 180, low, (b + 180) % 360 - 180, high))  # type: ignore[misc]


def holds_whole(version: Version) -> None:
    """Where nothing is cut, everything is as stored: the world, and the box that a description tells."""
    spatial = version.description.spatial
    if spatial.bbox is None or spatial.family == "none":
        return
    stored = version.coverage()
    for box in ((-180.0, -90.0, 180.0, 90.0), spatial.bbox):
        asked = version.coverage(bbox=",".join(map(repr, box)))
        for name in horizontal(version):
            window, all_ = asked.along[name], stored.along[name]
            known = known_along(version, name)
            assert set(known) <= set(window.indices().tolist()), (box, name)
            if window.size == all_.size and box[2] - box[0] == 360:
                assert window.runs == all_.runs, (box, name)
            assert window.indices().tolist() == sorted(window.indices().tolist()) or box[2] - box[0] != 360


def known_along(version: Version, name: str) -> list[int]:
    """Return the indices of cells with a position; of a column that is there twice the first."""
    spatial, labels = version.description.spatial, version.labels.values
    if version.description.cell_dimensions:
        inside = np.isfinite(labels[str(spatial.x)]) & np.isfinite(labels[str(spatial.y)])
        number = version.description.cell_dimensions.index(name)
        return np.flatnonzero(inside.any(axis=tuple(each for each in range(inside.ndim) if each != number))).tolist()
    axis = version.description.axis(name)
    size = axis.size
    if axis.name == spatial.x and spatial.family == "rectilinear":
        lon = labels[axis.name].astype("f8")
        _, first = np.unique(np.round(lon % 360, 3), return_index=True)
        return sorted(first.tolist())
    return list(range(size))


def holds_periods(version: Version) -> None:
    """A short time is its whole period, on every door: alone, from and to, in a subset, and as start and end of a download."""
    temporal, time = version.description.temporal, time_axis(version.description)
    if temporal is None or time is None or time.scalar:
        return
    for label in {temporal.start, temporal.end}:
        for length in (4, 7, 10):
            text = label[:length]
            taken = [
                steps(version, datetime=text),
                steps(version, datetime=f"{text}/{text}"),
                steps(version, subset=f'{time.name}("{text}")'),
                steps(version, subset=f'{time.name}("{text}":"{text}")'),
            ]
            fine = {"yearly": 4, "monthly": 7}.get(temporal.period_type or "", 10)
            if length <= fine:
                ends = period_of(version.description, temporal.period_type, {"start": text, "end": text})
                windows = resolve(version.description, version.labels, Selection(datetime=ends))
                taken.append(windows.along[time.dimension].indices().tolist())
            assert all(each == taken[0] for each in taken), (text, taken)
            if length == 10 or temporal.period_type in ("yearly", "monthly", "daily"):
                assert taken[0], text


def steps(version: Version, **query: str) -> list[int]:
    time = time_axis(version.description)
    assert time is not None
    try:
        return version.coverage(**query).along[time.dimension].indices().tolist()
    except NotFound:
        return []


def holds_box(version: Version) -> None:
    """The box is that of all cells: no place of a value is outside."""
    bbox = version.description.spatial.bbox
    if bbox is None:
        return
    west, south, east, north = bbox
    width = (east - west) % 360 or 360.0
    for _, lon, lat in some_cells(version, 200):
        assert (lon - west + 1e-3) % 360 <= width + 2e-3, (lon, bbox)
        assert south - 1e-3 <= lat <= north + 1e-3, (lat, bbox)


def holds_unknown(version: Version) -> None:
    """Nothing is invented: what has no place has no box, what has no time no interval, and no latitude lies past a pole."""
    description = version.description
    if description.spatial.family == "none" and description.spatial.bbox is not None:
        words = " ".join(str(version.raw.variables[name].attrs.get("coordinates", "")) for name in description.fields).split()
        assert any("lat" in word.lower() for word in words), "a box, and nothing that places it"
    if description.temporal is None:
        assert not any(
            axis.kind == "t" and axis.dimension in version.raw[list(description.fields)].dims for axis in description.axes
        )
    for axis in description.axes:
        if description.spatial.family == "rectilinear" and axis.name == description.spatial.y:
            assert axis.lower is not None
            assert axis.upper is not None
            assert -90 <= axis.lower <= axis.upper <= 90


def holds_nothing_lost(version: Version) -> None:
    """Every data variable is a field of one of the grids, or goes with the values on levels, or a warning names it."""
    description = version.description
    levels = {axis.dimension for axis in description.axes if axis.kind == "z"}
    levels |= {axis.dimension for grid in description.grids for axis in grid.axes if axis.kind == "z"}
    named = " ".join(str(each.attrs.get(key, "")) for each in version.raw.variables.values() for key in REFERENCES)
    words = " ".join(text for _, text in (*description.warnings, *check(version.raw)))
    for variable in description.variables:
        goes_along = set(variable.dimensions) <= levels or variable.name in re.split(r"[\s:]+", named)
        if variable.role == "data" and variable.name not in description.all_fields and not goes_along:
            assert repr(variable.name) in words or " more" in words, variable.name


INVARIANTS: dict[str, Callable[[Version], None]] = {
    "place": holds_place,
    "area": holds_area,
    "whole": holds_whole,
    "periods": holds_periods,
    "box": holds_box,
    "unknown": holds_unknown,
    "nothing lost": holds_nothing_lost,
}


@pytest.mark.parametrize("name", INVARIANTS)
def test_it_holds_of_every_real_file(name: str, real: Version) -> None:
    INVARIANTS[name](real)


# --- planted faults -----------------------------------------------------------------------------------------------------


def made(**attributes: Any) -> xr.Dataset:
    hours = np.arange(48.0)
    lat, lon = np.arange(-60.0, 61, 30), np.arange(0.0, 360, 30)
    data = xr.Dataset(
        {"v": (("time", "lat", "lon"), np.zeros((48, 5, 12), "f4"))},
        {
            "time": ("time", hours, {"units": "hours since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
    )
    return data.assign_attrs(attributes)


class Rolled(Version):
    """Longitudes are those of the next column."""

    def edr(self, kind: Any, **query: str) -> Windows:
        self.labels = Labels({**self.labels.values, "lon": np.roll(made()["lon"].values, 1)}, self.labels.bounds)
        return super().edr(kind, **query)


class WithoutEdges(Version):
    """Areas lose what is on their edges."""

    def edr(self, kind: Any, **query: str) -> Windows:
        if kind == "area":
            query = {**query, "coords": shapely.to_wkt(shapely.from_wkt(query["coords"]).buffer(-16), rounding_precision=-1)}
        return super().edr(kind, **query)


class Torn(Version):
    """The world begins at 180° W whatever is stored."""

    def coverage(self, **query: str) -> Windows:
        found = super().coverage(**query)
        torn = Window("lon", (IndexRange(6, 12, -360.0), IndexRange(0, 6)))
        return replace(found, along={**found.along, "lon": torn}) if "bbox" in query else found


class FirstHour(Version):
    """A day is its first hour."""

    def coverage(self, **query: str) -> Windows:
        asked = query.get("datetime", "")
        return super().coverage(**{**query, "datetime": f"{asked}T00:00:00Z"} if len(asked) == 10 else query)


class Smaller(Version):
    """The box has lost half of the world."""

    def __init__(self, raw: xr.Dataset) -> None:
        super().__init__(raw)
        self.description = self.description.model_copy(
            update={"spatial": self.description.spatial.model_copy(update={"bbox": (0.0, -75.0, 90.0, 75.0)})}
        )


class PastThePoles(Version):
    """Cells reach past the poles."""

    def __init__(self, raw: xr.Dataset) -> None:
        super().__init__(raw)
        axes = tuple(axis.model_copy(update={"upper": 105.0}) if axis.name == "lat" else axis for axis in self.description.axes)
        self.description = self.description.model_copy(update={"axes": axes})


class Silent(Version):
    """A variable on other dimensions is not a field, and its name is nowhere."""

    def __init__(self, raw: xr.Dataset) -> None:
        super().__init__(raw.assign(w=(("row", "column"), np.zeros((2, 3)))))
        self.description = self.description.model_copy(update={"warnings": ()})
        self.raw = raw


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("place", Rolled),
        ("area", WithoutEdges),
        ("whole", Torn),
        ("periods", FirstHour),
        ("box", Smaller),
        ("unknown", PastThePoles),
        ("nothing lost", Silent),
    ],
)
def test_each_fails_on_a_planted_fault(name: str, fault: type[Version]) -> None:
    INVARIANTS[name](Version(made()))
    with pytest.raises((AssertionError, NotFound)):
        INVARIANTS[name](fault(made()))


def test_every_invariant_is_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/explanation/invariants.md").read_text()
    for name, holds in INVARIANTS.items():
        assert f"| {name} |" in page
        assert holds.__name__ in page
