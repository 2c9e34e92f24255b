"""A selection takes exactly the cells that docs/explanation/invariants.md says, on every kind of axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.description import Axis, Crs, CubeDescription, Spatial, Temporal, Variable
from cubeport.cubes.download import period_of
from cubeport.cubes.resolve import cells, resolve
from cubeport.cubes.selection import Selection, order, parse
from cubeport.cubes.windows import Cost, Labels, Windows, count, fitting
from cubeport.errors import InvalidRequest, NotFound

WORLD = (-180.0, -90.0, 180.0, 90.0)


class Cube:
    """A description with its labels, made from arrays."""

    def __init__(
        self, *, family: str = "rectilinear", calendar: str = "standard", crs: Crs | None = None, dims: str = "", **axes: Any
    ) -> None:
        kinds = {"lon": "x", "lat": "y", "time": "t", "lev": "z", "member": "member", "x": "x", "y": "y"}
        units = {"lon": "degrees_east", "lat": "degrees_north", "x": "m", "y": "m"}
        bounds = {name.removesuffix("_bnds"): values for name, values in axes.items() if name.endswith("_bnds")}
        values = {name: np.asarray(each) for name, each in axes.items() if not name.endswith("_bnds")}
        self.labels = Labels(values, {name: np.asarray(each) for name, each in bounds.items()})
        names = dims.split() or list(values)
        shape = tuple(values[name].size for name in names)
        self.description = CubeDescription(
            axes=tuple(
                Axis(name=name, dimension=name, kind=kinds[name], size=each.size, units=units.get(name), ascending=_ascending(each))  # type: ignore[arg-type]
                for name, each in values.items()
            ),
            variables=(
                Variable(
                    name="tas",
                    role="data",
                    dimensions=tuple(names),
                    shape=shape,
                    chunks=tuple(min(4, n) for n in shape),
                    dtype="int16",
                    decoded_dtype="float32",
                ),
                Variable(
                    name="mask",
                    role="data",
                    dimensions=tuple(names[-2:]),
                    shape=shape[-2:],
                    chunks=shape[-2:],
                    dtype="int8",
                    decoded_dtype="int8",
                ),
            ),
            fields=("tas", "mask"),
            spatial=Spatial(family=family, bbox=WORLD, x="lon", y="lat", crs=crs),  # type: ignore[arg-type]
            temporal=Temporal(axis="time", calendar=calendar, start="a", end="b", count=1) if "time" in values else None,
        )

    def take(self, **query: str | list[str]) -> Windows:
        pairs = [
            (name.replace("_", "-"), text)
            for name, given in query.items()
            for text in ([given] if isinstance(given, str) else given)
        ]
        return resolve(self.description, self.labels, parse(pairs, forms=("json",)))

    def along(self, axis: str, **query: Any) -> list[Any]:
        """The labels that the answer has on *axis*, turned as the answer turns them."""
        window = self.take(**query).along[axis]
        shift = np.concatenate([np.full(run.stop - run.start, run.shift) for run in window.runs])
        found = self.labels.values[axis][window.indices()]
        return (found + shift).tolist() if shift.any() else found.tolist()

    def kinds(self, **query: Any) -> list[str]:
        with pytest.raises(InvalidRequest) as caught:
            self.take(**query)
        return [f"{problem.loc[1]}:{problem.kind}" for problem in caught.value.errors]

    def outside(self, **query: Any) -> None:
        with pytest.raises(NotFound) as caught:
            self.take(**query)
        assert caught.value.members["what"] == "data"
        assert caught.value.members["extent"]["bbox"] == list(WORLD)


def _ascending(values: np.ndarray[Any, Any]) -> bool | None:
    return None if values.size < 2 or values.dtype.kind not in "iuf" else bool(values[-1] > values[0])


def times(*texts: str) -> np.ndarray[Any, Any]:
    return np.array([order([int(text[0:4]), int(text[5:7]), int(text[8:10]), int(text[11:13] or 0), 0, 0, 0]) for text in texts])


globe = Cube(lat=np.arange(-89.5, 90), lon=np.arange(0.5, 360))
down = Cube(lat=np.arange(89.5, -90, -1), lon=np.arange(-179.5, 180))


@pytest.mark.parametrize("cube", [globe, down])
def test_a_trim_keeps_cells_whose_inside_meets_the_box(cube: Cube) -> None:
    assert sorted(cube.along("lat", bbox="10,20,13,23")) == [20.5, 21.5, 22.5]
    assert cube.along("lon", bbox="10,20,13,23") == [10.5, 11.5, 12.5]
    assert cube.along("lon", bbox="9.9,20,13.1,23") == [9.5, 10.5, 11.5, 12.5, 13.5]


def test_the_order_is_that_of_the_store() -> None:
    assert globe.along("lat", bbox="10,20,13,23") == [20.5, 21.5, 22.5]
    assert down.along("lat", bbox="10,20,13,23") == [22.5, 21.5, 20.5]


@pytest.mark.parametrize("cube", [globe, down])
def test_a_box_inside_one_cell_gives_that_cell(cube: Cube) -> None:
    assert cube.along("lat", bbox="10.2,20.2,10.3,20.3") == [20.5]
    assert cube.along("lon", bbox="10.2,20.2,10.3,20.3") == [10.5]
    assert cube.along("lon", bbox="10,20,10,20") == [10.5]


@pytest.mark.parametrize("cube", [globe, down])
def test_longitudes_run_on_from_the_west_of_the_query(cube: Cube) -> None:
    assert cube.along("lon", bbox="-2,0,2,1") == [-1.5, -0.5, 0.5, 1.5]
    assert cube.along("lon", bbox="358,0,2,1") == [358.5, 359.5, 360.5, 361.5]
    assert cube.along("lon", bbox="178,0,-178,1") == [178.5, 179.5, 180.5, 181.5]
    assert cube.along("lon", bbox="-182,0,-178,1") == [-181.5, -180.5, -179.5, -178.5]


def test_two_windows_are_joined_over_the_seam() -> None:
    runs = globe.take(bbox="-2,0,2,1").along["lon"].runs
    assert [(run.start, run.stop, run.shift) for run in runs] == [(358, 360, -360.0), (0, 2, 0.0)]


@pytest.mark.parametrize("cube", [globe, down])
@pytest.mark.parametrize("box", ["-180,-90,180,90", "0,-90,360,90", "-180,-90,540,90", "10,-90,370,90"])
def test_all_round_is_all_of_it_as_stored(cube: Cube, box: str) -> None:
    windows = cube.take(bbox=box)
    assert windows.along["lon"].runs == cube.take().along["lon"].runs
    assert windows.along["lat"].runs == cube.take().along["lat"].runs


def test_a_column_that_is_there_twice_is_served_once() -> None:
    cyclic = Cube(lat=[0.0, 1], lon=np.arange(0.0, 361, 10))
    assert len(cyclic.along("lon", bbox="-180,0,180,1")) == 36
    assert cyclic.along("lon", bbox="-12,0,12,1") == [-10, 0, 10]


def test_a_column_that_is_nearly_there_twice_is_served_once() -> None:
    labels = np.append(np.arange(0.0, 360, 10), np.float32(359.9999))
    cyclic = Cube(lat=[0.0, 1], lon=labels)
    assert len(cyclic.along("lon", bbox="-180,0,180,1")) == 36
    assert cyclic.along("lon", bbox="-12,0,12,1") == pytest.approx([-10, 0, 10], abs=1e-3)


def test_descending_longitudes_stay_descending() -> None:
    cube = Cube(lat=[0.0, 1], lon=np.arange(350.0, -1, -10))
    assert cube.along("lon", bbox="-12,0,12,1") == [10, 0, -10]


def test_a_regional_grid_in_0_360_is_met_by_western_longitudes() -> None:
    cube = Cube(lat=[20.0, 21, 22], lon=np.arange(263.0, 375))
    assert cube.along("lon", bbox="-90.4,20,-88.6,21") == [-90, -89]
    assert cube.along("lon", bbox="8,20,12,21") == [8, 9, 10, 11, 12]
    cube.outside(bbox="60,20,70,21")


def test_bounds_are_the_cells() -> None:
    cube = Cube(
        lat=[0.0, 10], lat_bnds=[[-5, 2], [2, 15]], lon=[0.0, 90, 180, 270], lon_bnds=[[315, 45], [45, 135], [135, 225], [225, 315]]
    )
    assert cube.along("lat", bbox="0,3,1,4") == [10]
    assert cube.along("lon", bbox="-40,0,-30,1") == [0]
    assert cube.along("lon", bbox="310,0,320,1") == [270, 360]


def test_one_cell_is_found_where_it_lies_and_nowhere_else() -> None:
    point = Cube(lat=[50.0], lon=[8.0])
    assert point.along("lon", bbox="7,49,9,51") == [8]
    assert point.along("lon", bbox="8,50,8,50") == [8]
    assert point.along("lon", bbox="367,49,369,51") == [368]
    point.outside(bbox="8.1,49,9,51")
    boxed = Cube(lat=[50.0], lat_bnds=[[45, 55]], lon=[8.0], lon_bnds=[[0, 16]])
    assert boxed.along("lat", bbox="1,46,2,47") == [50]


def test_slices_take_the_cell_that_holds_the_value() -> None:
    assert globe.along("lat", subset="Lat(20)") == [20.5]
    assert globe.along("lat", subset="lat(90)") == [89.5]
    assert globe.along("lon", subset="Lon(-0.2)") == [-0.5]
    assert globe.along("lon", subset="Lon(360)") == [360.5]
    assert globe.take(subset="Lat(20)").along["lat"].sliced
    globe.outside(subset="Lat(90.1)")
    assert globe.along("lat", subset="Lat(20,-3.7,20.4)") == [-3.5, 20.5]


def test_slices_of_points_take_the_nearest_label_inside_the_range() -> None:
    cube = Cube(lev=[1000.0, 850, 500], lat=[0.0, 1], lon=[0.0, 1])
    assert cube.along("lev", subset="lev(840)") == [850]
    assert cube.along("lev", subset="z(1000)") == [1000]
    assert cube.along("lev", subset="lev(600:900)") == [850]
    assert cube.along("lev", subset="lev(*:850)") == [850, 500]
    assert cube.along("lev", bbox="0,0,500,1,1,850") == [850, 500]
    cube.outside(subset="lev(499)")
    cube.outside(subset="lev(510:840)")


def test_an_axis_without_labels_is_asked_by_its_numbers() -> None:
    cube = Cube(member=np.arange(3), lat=[0.0, 1], lon=[0.0, 1])
    cube.labels = Labels({name: each for name, each in cube.labels.values.items() if name != "member"})
    assert cube.take(subset="member(2)").along["member"].indices().tolist() == [2]
    assert cube.take(subset="ensemble(0:1)").along["member"].indices().tolist() == [0, 1]
    cube.outside(subset="member(3)")


def test_members_are_named() -> None:
    cube = Cube(member=np.array(["r1", "r2", "r3"], dtype=object), lat=[0.0, 1], lon=[0.0, 1])
    assert cube.along("member", subset='member("r3","r1")') == ["r1", "r3"]
    assert cube.along("member", subset="ensemble(r2)") == ["r2"]
    cube.outside(subset='member("r9")')
    assert cube.kinds(subset='member("r1":"r2")') == ["subset:malformed"]


monthly = Cube(
    time=times("2006-03-16", "2006-04-16", "2006-05-16"),
    time_bnds=np.stack([times("2006-03-01", "2006-04-01", "2006-05-01"), times("2006-04-01", "2006-05-01", "2006-06-01")], axis=1),
    lat=[0.0, 1],
    lon=[0.0, 1],
)
hourly = Cube(
    time=times(*(f"2006-04-{day:02d}T{hour:02d}" for day in (1, 2) for hour in range(0, 24, 6))), lat=[0.0, 1], lon=[0.0, 1]
)


def test_a_moment_takes_the_label_or_the_cell() -> None:
    assert monthly.along("time", datetime="2006-04-16T00:00:00Z") == times("2006-04-16").tolist()
    assert monthly.along("time", datetime="2006-04-03T05:00:00Z") == times("2006-04-16").tolist()
    assert monthly.along("time", datetime="2006-04-01T00:00:00Z") == times("2006-04-16").tolist()
    assert hourly.along("time", datetime="2006-04-01T14:00:00+02:00") == times("2006-04-01T12").tolist()
    hourly.outside(datetime="2006-04-01T13:00:00Z")
    monthly.outside(datetime="2006-06-01T00:00:00Z")


@pytest.mark.parametrize("name", ["2006", "2006-04", "2006-04-01", "2006-04-02", "2006-04-02T06"])
def test_a_short_time_is_its_whole_period_on_every_door(name: str) -> None:
    whole = hourly.along("time", datetime=f"{name}/{name}")
    assert whole
    assert hourly.along("time", datetime=name) == whole
    assert hourly.along("time", subset=f'time("{name}")') == whole
    assert hourly.along("time", subset=f'time("{name}":"{name}")') == whole
    assert len(whole) == {4: 8, 7: 8, 10: 4, 13: 1}[len(name)]
    assert monthly.take(datetime="2006-04").along["time"].sliced
    assert not hourly.take(datetime="2006-04").along["time"].sliced


def test_a_day_within_a_longer_step_is_that_step() -> None:
    assert monthly.along("time", datetime="2006-04-10") == times("2006-04-16").tolist()
    assert monthly.along("time", datetime="2006-04") == times("2006-04-16").tolist()
    monthly.outside(datetime="2007")


@pytest.mark.parametrize("year", [1991, 1992])
def test_a_year_is_the_step_of_its_label_where_years_begin_in_december(year: int) -> None:
    labels = times("1990-06-01", "1991-06-01", "1992-06-01", "1993-06-01")
    edges = times("1989-12-01", "1990-12-01", "1991-12-01", "1992-12-01", "1993-12-01")
    cube = Cube(time=labels, time_bnds=np.stack([edges[:-1], edges[1:]], axis=1), lat=[0.0, 1], lon=[0.0, 1], calendar="360_day")
    yearly = cube.description.temporal.model_copy(update={"period_type": "yearly"})  # type: ignore[union-attr]
    cube.description = cube.description.model_copy(update={"temporal": yearly})
    for query in ({"datetime": f"{year}"}, {"datetime": f"{year}/{year}"}, {"subset": f'time("{year}")'}):
        assert cube.along("time", **query) == times(f"{year}-06-01").tolist()
    asked = period_of(cube.description, "yearly", {"start": str(year), "end": str(year)})
    windows = resolve(cube.description, cube.labels, Selection(datetime=asked))
    assert windows.along["time"].indices().tolist() == [year - 1990]
    assert cube.along("time", datetime="1990-12-15") == times("1991-06-01").tolist()


def test_periods_are_trims_to_the_end_of_their_last_component() -> None:
    assert len(hourly.along("time", datetime="2006-04-01/2006-04-01")) == 4
    assert len(hourly.along("time", datetime="2006-04-01T06:00:00Z/..")) == 7
    assert len(hourly.along("time", datetime="../2006-04-01T06:00:00Z")) == 2
    assert monthly.along("time", datetime="2006-04-10/2006-04-11") == times("2006-04-16").tolist()
    assert len(monthly.along("time", datetime="2006-04-01/2006-05-01T00:00:00Z")) == 1
    assert hourly.along("time", subset='time("2006-04-02T00:00:00Z":"2006-04")') == hourly.along(
        "time", datetime="2006-04-02/2006-04"
    )
    assert hourly.along("time", subset="time(*)") == times("2006-04-02T18").tolist()
    assert hourly.along("time", subset="time(2006)") == hourly.along("time", datetime="2006")
    hourly.outside(datetime="2007/2008")


@pytest.mark.parametrize("labelled", ["start", "end"])
def test_from_the_first_label_to_the_last_is_all(labelled: str) -> None:
    edges = times("2006-03-01", "2006-04-01", "2006-05-01", "2006-06-01")
    labels = edges[:-1] if labelled == "start" else edges[1:]
    cube = Cube(time=labels, time_bnds=np.stack([edges[:-1], edges[1:]], axis=1), lat=[0.0, 1], lon=[0.0, 1])
    first, last = ("03", "05") if labelled == "start" else ("04", "06")
    extent = f"2006-{first}-01T00:00:00Z/2006-{last}-01T00:00:00Z"
    assert cube.along("time", datetime=extent) == labels.tolist()
    assert cube.along("time", datetime=f"../2006-{first}-01T00:00:00Z") == labels[:1].tolist()
    assert cube.along("time", datetime=f"2006-{last}-01T00:00:00Z/..") == labels[-1:].tolist()
    # A shorter form names a span: cells that only touch it stay out.
    assert cube.along("time", datetime="2006-04/2006-04") == labels[1:2].tolist()


def test_calendars_keep_their_own_days() -> None:
    cube = Cube(time=times("2095-02-29", "2095-02-30", "2095-03-01"), calendar="360_day", lat=[0.0, 1], lon=[0.0, 1])
    assert cube.along("time", datetime="2095-02-30") == times("2095-02-30").tolist()
    assert cube.along("time", datetime="2095-02-30/2095-03") == times("2095-02-30", "2095-03-01").tolist()
    assert cube.kinds(datetime="2095-01-31") == ["datetime:invalid-period"]
    assert hourly.kinds(datetime="2006-02-30") == ["datetime:invalid-period"]


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize(
    ("calendar", "missing", "last", "first"),
    [("360_day", "2095-01-31", "01-30", "02-01"), ("noleap", "2096-02-29", "02-28", "03-01")],
)
def test_a_period_can_end_at_a_day_that_only_other_calendars_have(
    calendar: str, missing: str, last: str, first: str, cells: bool
) -> None:
    """As the last day of a month, asked of the runs of all models alike."""
    days = times(*(f"{missing[:4]}-{each}" for each in (last, first)))
    edges = {"time_bnds": np.stack([days, [days[1], days[1] + 86_400_000_000]], axis=1)} if cells else {}
    cube = Cube(time=days, calendar=calendar, lat=[0.0, 1], lon=[0.0, 1], **edges)
    for moment in ("", "T12:00:00Z"):
        assert cube.along("time", datetime=f"{missing[:7]}-01/{missing}{moment}") == days[:1].tolist()
        assert cube.along("time", datetime=f"../{missing}{moment}") == days[:1].tolist()
        assert cube.along("time", datetime=f"{missing}{moment}/..") == days[1:].tolist()
        assert cube.kinds(datetime=f"{missing}{moment}/{missing}{moment}") == ["datetime:invalid-period"]
    assert cube.kinds(datetime=missing) == ["datetime:invalid-period"]


def test_names_that_the_cube_lacks_are_all_told() -> None:
    assert globe.kinds(subset=["depth(3)", "Lat(5:1)"], properties="tas,snow", datetime="2006") == [
        "properties:unknown",
        "subset:no-axis",
        "subset:invalid-range",
        "datetime:no-axis",
    ]
    assert globe.kinds(subset="Lat(1:2)", bbox="0,0,1,1") == ["subset:clash"]
    assert globe.kinds(subset=["Lat(1:2)", "latitude(3)"]) == ["subset:repeated"]
    assert monthly.kinds(subset="time(*)", datetime="2006") == ["subset:clash"]
    assert globe.kinds(bbox="0,0,1,1", bbox_crs="EPSG:2154") == ["bbox-crs:not-offered"]
    assert globe.kinds(crs="EPSG:3857", subset_crs="EPSG:4326") == ["crs:not-offered", "subset-crs:not-offered"]
    assert globe.along("lat", crs="OGC:CRS84", subset="Lat(20)", subset_crs="OGC:CRS84") == [20.5]
    assert globe.kinds(exclude_properties="tas,mask") == ["exclude-properties:empty"]


def test_fields_come_in_the_order_asked() -> None:
    assert globe.take(properties="mask,tas").fields == ("mask", "tas")
    assert globe.take(exclude_properties="tas").fields == ("mask",)


def test_without_a_place_a_box_is_refused() -> None:
    cube = Cube(family="none", time=times("2006-04-16"), lev=[1.0, 2])
    assert cube.kinds(bbox="0,0,1,1") == ["bbox:no-axis"]
    assert cube.along("lev", subset="lev(2)") == [2]


OSGB = Crs(name="OSGB36 / British National Grid", authority="EPSG:27700", geographic=False)


@pytest.fixture(scope="module")
def british() -> Cube:
    from pyproj import CRS

    crs = OSGB.model_copy(update={"wkt2": CRS.from_epsg(27700).to_wkt("WKT2_2019")})
    return Cube(family="projected", crs=crs, y=np.arange(2500.0, 1300000, 5000), x=np.arange(2500.0, 700000, 5000))


def test_a_native_box_is_metres_and_a_crs84_box_is_carried_over(british: Cube) -> None:
    assert british.along("x", bbox="400000,200000,410000,220000", bbox_crs="EPSG:27700") == [402500, 407500]
    # Greenwich Observatory: TQ 38900 77300.
    assert british.along("x", bbox="-0.0015,51.4775,-0.0014,51.4779") == [537500]
    assert british.along("y", bbox="-0.0015,51.4775,-0.0014,51.4779") == [177500]
    british.outside(bbox="20,40,21,41")
    assert british.kinds(subset="Lon(1:2)") == ["subset:unknown"]
    assert british.along("x", subset="E(400000:410000)") == [402500, 407500]


def test_a_wide_box_over_a_pole_takes_the_ring_that_corners_would_miss() -> None:
    from pyproj import CRS

    crs = Crs(name="polar", wkt2=CRS.from_epsg(3413).to_wkt("WKT2_2019"), geographic=False)
    cube = Cube(family="projected", crs=crs, y=np.arange(-4e6, 4.1e6, 1e5), x=np.arange(-4e6, 4.1e6, 1e5))
    found = cube.along("x", bbox="-180,60,180,90")
    assert min(found) == -3.3e6
    assert max(found) == 3.3e6


def test_a_rotated_grid_over_the_pole_is_taken_whole() -> None:
    from pyproj import CRS

    rotated = CRS.from_cf(
        {
            "grid_mapping_name": "rotated_latitude_longitude",
            "grid_north_pole_latitude": 5.0,
            "grid_north_pole_longitude": 20.0,
            "north_pole_grid_longitude": 0.0,
        }
    )
    crs = Crs(name="rotated", wkt2=rotated.to_wkt("WKT2_2019"))
    cube = Cube(family="projected", crs=crs, y=np.arange(-30.0, 31), x=np.arange(150.0, 211))
    cube.description = cube.description.model_copy(
        update={"axes": tuple(axis.model_copy(update={"units": "degrees"}) for axis in cube.description.axes)}
    )
    south = cube.take(bbox="-180,-90,180,-89")
    assert 0 < south.along["x"].size < 10
    assert len(cube.take(bbox="-180,-90,180,90").along) == 2


def test_curvilinear_cells_are_picked_by_their_centres() -> None:
    lon, lat = np.meshgrid(np.arange(350.0, 371), np.arange(40.0, 51))
    lon[5, 10] = np.nan
    cube = Cube(lat=np.arange(11), lon=np.arange(21), family="curvilinear")
    position = {
        "role": "auxiliary",
        "dimensions": ("j", "i"),
        "shape": lon.shape,
        "chunks": lon.shape,
        "dtype": "float64",
        "decoded_dtype": "float64",
    }
    data = Variable.model_validate({**position, "name": "ice", "role": "data"})
    cube.description = cube.description.model_copy(
        update={
            "axes": (),
            "fields": ("ice",),
            "variables": (
                data,
                Variable.model_validate({**position, "name": "lon"}),
                Variable.model_validate({**position, "name": "lat"}),
            ),
        }
    )
    cube.labels = Labels({"lon": lon, "lat": lat})
    windows = cube.take(bbox="-1,44,2,46")
    assert [(run.start, run.stop) for run in windows.along["i"].runs] == [(9, 13)]
    assert [(run.start, run.stop) for run in windows.along["j"].runs] == [(4, 7)]
    assert windows.mask is not None
    assert windows.mask.inside.tolist() == [[True] * 4, [True, False, True, True], [True] * 4]
    cube.outside(bbox="100,0,110,10")


def test_scaling_takes_cells_that_are_there() -> None:
    assert globe.along("lat", bbox="0,0,9,9", scale_factor="3") == [1.5, 4.5, 7.5]
    assert down.along("lat", bbox="0,0,9,9", scale_factor="3") == [7.5, 4.5, 1.5]
    assert globe.along("lon", bbox="-6,0,6,9", scale_size="Lon(4)") == [-4.5, -1.5, 1.5, 4.5]
    assert len(globe.along("lat", bbox="-6,0,6,9", scale_size="Lon(4)")) == 9
    assert globe.along("lat", bbox="0,0,9,9", scale_axes="Lat(9),Lon(1)") == [4.5]
    assert globe.along("lat", bbox="0,0,9,9", scale_factor="100") == [4.5]
    assert globe.along("lon", scale_size="Lon(360)") == globe.along("lon")
    assert count(globe.description, globe.take(scale_factor="10", properties="tas")).cells == 18 * 36


def test_what_cannot_be_scaled_is_told() -> None:
    assert globe.kinds(bbox="0,0,9,9", scale_size="Lat(10)") == ["scale-size:out-of-range"]
    assert globe.kinds(scale_factor="0.5") == ["scale-factor:out-of-range", "scale-factor:out-of-range"]
    assert globe.kinds(subset="Lat(3)", scale_axes="Lat(2)") == ["scale-axes:clash"]
    assert monthly.kinds(scale_axes="time(2)") == ["scale-axes:no-axis"]
    assert globe.kinds(scale_factor="2", scale_axes="Lat(2)") == ["scale-axes:clash"]
    for text in ("0", "-1", "x", "nan"):
        assert globe.kinds(scale_factor=text)[0].startswith("scale-factor:")
    for text in ("Lat", "Lat(1:2)", "Lat(1.5)", 'Lat("a")', "Lat(1,2)"):
        assert globe.kinds(scale_size=text) == ["scale-size:malformed"]


@given(st.integers(1, 180), st.integers(1, 360))
def test_a_scaled_axis_is_evenly_spread(rows: int, columns: int) -> None:
    lats = np.array(globe.along("lat", scale_size=f"Lat({rows}),Lon({columns})"))
    assert lats.size == rows
    assert set(lats) <= set(globe.labels.values["lat"])
    ideal = -90 + 180 * (np.arange(rows) + 0.5) / rows
    assert np.abs(lats - ideal).max() <= 1


def test_the_cost_is_counted_from_metadata() -> None:
    cube = Cube(time=times(*(f"2006-04-{day:02d}" for day in range(1, 11))), lat=np.arange(10.0), lon=np.arange(10.0))
    windows = cube.take(bbox="2.6,0,5.4,2", datetime="2006-04-04/2006-04-06", properties="tas")
    assert windows.shape(("time", "lat", "lon")) == (3, 3, 3)
    assert count(cube.description, windows) == Cost(cells=27, written=27, chunks=2 * 1 * 2, bytes=27 * 4)
    whole = cube.take()
    assert count(cube.description, whole) == Cost(cells=1100, written=1100, chunks=27 + 1, bytes=4100)
    fits = fitting(cube.description, cube.take(properties="tas"), cells=350)
    assert fits is not None
    assert fits.along["time"].size == 3
    assert fitting(cube.description, whole, cells=10) is None


# --- what holds always ---------------------------------------------------------------------------------------------------

edges = st.integers(-540, 540)


@given(edges, st.integers(1, 359), st.integers(1, 359))
def test_two_adjacent_trims_are_the_trim_of_both(west: int, first: int, second: int) -> None:
    middle, east = west + first, west + min(first + second, 359)
    if middle >= east or east > 540:
        return
    for cube in (globe, down):
        joined = cube.along("lon", bbox=f"{west},0,{middle},1") + cube.along("lon", bbox=f"{middle},0,{east},1")
        assert joined == cube.along("lon", bbox=f"{west},0,{east},1")


@given(st.floats(-89.99, 89.99), st.floats(-539, 539))
def test_a_slice_is_the_trim_of_one(lat: float, lon: float) -> None:
    lat, lon = round(lat, 3) + 0.0005, round(lon, 3) + 0.0005
    for cube in (globe, down):
        assert cube.along("lat", subset=f"Lat({lat})") == cube.along("lat", bbox=f"0,{lat},0,{lat}")
        assert cube.along("lon", subset=f"Lon({lon})") == cube.along("lon", subset=f"Lon({lon}:{lon})")
        assert abs(cube.along("lon", subset=f"Lon({lon})")[0] - lon) <= 0.5


@given(st.lists(st.floats(-179, 179), min_size=2, max_size=12, unique=True), st.floats(-540, 180), st.floats(0, 360))
def test_a_box_takes_what_lies_in_it_whatever_the_frame(labels: list[float], west: float, width: float) -> None:
    values = np.sort(np.round(labels, 2))
    if np.diff(values).min() < 0.1:
        return
    east = min(west + width, 540)
    for shift in (0, 360):
        cube = Cube(lat=[0.0, 1], lon=values + shift)
        window = cube.description.axis("lon")
        assert window.size == values.size
        inside = {at for at, value in enumerate(values) if any(west < value + turn < east for turn in (-720, -360, 0, 360, 720))}
        try:
            taken = set(cube.take(bbox=f"{west!r},0,{east!r},1").along["lon"].indices().tolist())
        except NotFound:
            taken = set()
        assert inside <= taken


# --- the circle ----------------------------------------------------------------------------------------------------------

over_180 = Cube(lat=[0.0, 10], lon=np.arange(170.0, 191))
basin = Cube(lat=[0.0, 10], lon=np.concatenate((np.arange(0.0, 4), np.arange(323.0, 360))))
jumping = Cube(lat=[0.0, 10], lon=[170.0, 175, -180, -175])
around_zero = Cube(lat=[0.0, 10], lon=np.concatenate((np.arange(350.0, 360), np.arange(0.0, 11))))


@pytest.mark.parametrize("cube", [over_180, basin, jumping, around_zero])
@pytest.mark.parametrize("box", ["-180,-90,180,90", "0,-90,360,90", "-180,-90,179.99,90"])
def test_where_nothing_is_cut_labels_stay_as_stored(cube: Cube, box: str) -> None:
    assert cube.along("lon", bbox=box) == cube.labels.values["lon"].tolist()


@pytest.mark.parametrize(
    ("cube", "west", "east"),
    [(over_180, 169.5, 190.5), (basin, 322.5, 363.5), (jumping, 167.5, 187.5), (around_zero, 349.5, 370.5)],
)
def test_the_largest_gap_is_the_seam_and_cells_end_half_a_step_past_their_labels(cube: Cube, west: float, east: float) -> None:
    found = cells(cube.description, cube.description.axis("lon"), cube.labels)
    assert found.outer == (west, east)
    assert len(set((found.upper - found.lower).tolist())) == 1
    for place in (east + 0.1, (west + east) / 2 + 180, west - 0.1):
        cube.outside(subset=f"lon({place})")
    cube.outside(bbox=f"{east - 359.9},0,{west - 0.1},1")


def test_a_basin_over_greenwich_runs_on() -> None:
    assert basin.along("lon", bbox="-3,0,2,1") == [-3, -2, -1, 0, 1, 2]
    assert jumping.along("lon", bbox="176,0,-177,1") == [175, 180, 185]
    assert jumping.along("lon", subset="lon(-176)") == [-175]
    assert around_zero.along("lon", bbox="-2,0,2,1") == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("count", [7, 96, 320, 576, 1440, 3600])
@pytest.mark.parametrize("start", [0.0, -180.0, 0.3])
def test_single_precision_leaves_no_hole_in_a_globe(count: int, start: float) -> None:
    step = np.float32(360 / count)
    for labels in (np.float32(start) + step * np.arange(count, dtype="f4"), np.cumsum(np.full(count, step), dtype="f4")):
        cube = Cube(lat=[0.0, 1], lon=labels)
        found = cells(cube.description, cube.description.axis("lon"), cube.labels)
        assert found.outer[1] - found.outer[0] == 360
        for place in (*(start + 360 * np.arange(0, 8) / 8), float(labels[0]) - 180 / count, float(labels[-1]) + 180 / count):
            assert len(cube.along("lon", subset=f"lon({float(place)!r})")) == 1


def test_a_hole_between_even_labels_is_nobodys_cell() -> None:
    tiles = Cube(lat=[0.0, 1, 2, 3, 10, 11, 12], lon=np.concatenate((np.arange(0.0, 10), np.arange(40.0, 50))))
    tiles.outside(bbox="20,0,30,1")
    tiles.outside(subset="lat(6)")
    assert tiles.along("lon", bbox="8,0,41,1") == [8, 9, 40, 41]
    stretched = Cube(lat=[0.0, 1], lon=np.cumsum(1.2 ** np.arange(20)))
    assert len(stretched.along("lon", bbox="0,0,180,1")) == 20


@pytest.mark.parametrize(
    ("about", "title"),
    [
        ({}, "tas"),
        ({"standard_name": "air_temperature"}, "air temperature"),
        ({"standard_name": "air_temperature", "long_name": "T_2m"}, "T_2m"),
    ],
)
def test_the_title_of_a_variable_is_in_words(about: dict[str, str], title: str) -> None:
    made = Variable(name="tas", role="data", dimensions=(), shape=(), chunks=(), dtype="float32", decoded_dtype="float32", **about)
    assert made.title == title
