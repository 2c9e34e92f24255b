"""Each refusal has its reason, names its place and tells what to do next."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.catalog.forms import strictyaml
from cubeport.cubes.checks import check, droppable
from cubeport.cubes.describe import describe
from cubeport.cubes.groups import find
from cubeport.cubes.normalise import normalise
from cubeport.cubes.steps import NormaliseStep, plain
from cubeport.errors import SourceRejected, VariablesMismatch


def cube(**changes: Any) -> xr.Dataset:
    """Return a small sound cube; a change is ``name=(dims, values, attributes)``, or ``None`` to leave it out."""
    variables: dict[str, Any] = {
        "sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "f4"), {"units": "K"}),
        "time": (("time",), np.arange(3.0), {"units": "days since 2000-01-01"}),
        "lat": (("lat",), np.array([10.0, 20, 30, 40]), {"units": "degrees_north"}),
        "lon": (("lon",), np.array([1.0, 2, 3, 4, 5]), {"units": "degrees_east"}),
    }
    attributes = changes.pop("attrs", {})
    return xr.Dataset({name: value for name, value in (variables | changes).items() if value is not None}, attrs=attributes)


def test_a_sound_cube_passes_without_a_word() -> None:
    assert check(cube()) == ()


TIME = {"units": "days since 2000-01-01"}
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"time": (("time",), [0.0, 1, 1], TIME)}, "bad-time", "twice, at index 1 and 2"),
        ({"time": (("time",), [0.0, 2, 1], TIME)}, "bad-time", "2000-01-03T00:00:00Z at index 1 is followed by 2000-01-02"),
        ({"time": (("time",), [2.0, 1, 0], TIME)}, "bad-time", "must always increase"),
        ({"time": (("time",), [0.0, np.nan, 2], TIME)}, "bad-time", "label 1 is missing"),
        ({"time": (("time",), [0, 1, -9], {**TIME, "_FillValue": np.int64(-9)})}, "bad-time", "label 2 is missing"),
        ({"time": (("time",), [0.0, 1, 2], {"units": "days since the flood"})}, "bad-time", "'time' cannot be decoded"),
        ({"time": (("time",), [0.0, 1, 2], {**TIME, "calendar": "mayan"})}, "bad-time", "no calendar with the name 'mayan'"),
        ({"time": (("time",), [0.0, 1, 1e9], TIME)}, "bad-time", "time"),
        ({"lat": (("lat",), [10.0, 20, 20, 30], NORTH)}, "bad-coordinates", "'lat' has the same label at 1 and 2"),
        ({"lat": (("lat",), [10.0, 30, 20, 40], NORTH)}, "bad-coordinates", "'lat' changes direction at index 2"),
        ({"lat": (("lat",), [10.0, 20, np.inf, 40], NORTH)}, "bad-coordinates", "'lat': label 2 is missing or not finite"),
        ({"lat": (("lat",), [80.0, 85, 90, 95], NORTH)}, "bad-coordinates", "outside ±90"),
        ({"lon": (("lon",), [0.0, 1, 2, 3, 1e20], EAST)}, "bad-coordinates", "outside ±720"),
        (
            {"sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "i2"), {"scale_factor": 0.0})},
            "bad-coordinates",
            "'scale_factor' of 'sst'",
        ),
        (
            {"sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "i2"), {"scale_factor": np.nan})},
            "bad-coordinates",
            "no finite number",
        ),
        (
            {"sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "i2"), {"add_offset": "2"})},
            "bad-coordinates",
            "'add_offset' of 'sst'",
        ),
        ({"sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "f4"), {"coordinates": 5})}, "bad-coordinates", "cannot be decoded"),
        ({"sst": None}, "not-a-cube", "no variable contains numbers"),
        ({"time": None, "lat": None, "lon": None}, "not-a-cube", "'sst' has no coordinates"),
        ({"sst": (("time", "lat", "lon"), np.zeros((0, 4, 5), "f4")), "time": (("time",), np.zeros(0), TIME)}, "empty", "length 0"),
        ({"SST": (("time",), np.zeros(3))}, "bad-text", "'sst' and 'SST' differ only in case"),
        ({"a b": (("time",), np.zeros(3))}, "bad-text", "'a b'"),
        ({"c": (("time",), np.zeros(3))}, "bad-text", "'c'"),
        ({"__x": (("time",), np.zeros(3))}, "bad-text", "'__x'"),
        ({"zarr.json": (("time",), np.zeros(3))}, "bad-text", "'zarr.json'"),
        ({"v" * 129: (("time",), np.zeros(3))}, "bad-text", "at most 128"),
        ({"w": (("é",), np.zeros(3))}, "bad-text", "dimension"),
        ({"attrs": {"title": "a\x00b"}}, "bad-text", "'title' has the control character U+0000 at place 1"),
        ({"attrs": {"title": "\x85"}}, "bad-text", "U+0085"),
        ({"attrs": {"title": "bad \udce9 byte"}}, "bad-text", "'title' is not UTF-8"),
        ({"attrs": {"title": ["fine", "bad \udce9"]}}, "bad-text", "'title' is not UTF-8"),
        ({"attrs": {"title": b"\xff"}}, "bad-text", "'title' is not UTF-8"),
        ({"attrs": {"history": "x" * 65_537}}, "bad-text", "65544 bytes, more than 65536"),
        ({"attrs": {f"a{n}": "x" * 60_000 for n in range(70)}}, "bad-text", "together"),
        ({"attrs": {"table": np.zeros(8193)}}, "bad-text", "'table' has"),
    ],
)
def test_what_would_mislead_is_refused(changes: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(SourceRejected) as caught:
        check(cube(**changes))
    assert caught.value.reason == reason
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"attrs": {"history": "line\none\ttab", "note": "Zürich ☀"}}, set()),
        ({"lat": (("lat",), [40.0, 30, 20, 10], NORTH)}, set()),
        ({"lat": (("lat",), np.array([-90.0, -30, 30, 90.00001], "f4"), NORTH)}, set()),
        ({"run": (("run",), [1.0, 1.0]), "w": (("run", "time"), np.zeros((2, 3)))}, {"labels-ignored", "other-grids", "no-place"}),
        ({"time": (("time",), [0.0, 1, 2], {"units": "second", "standard_name": "time"})}, {"undated-time"}),
        ({"lonely": (("lonely",), [1.0, 1.0, np.nan], {"standard_name": "latitude"})}, set()),  # labels of nothing
        ({"sst": (("time", "lat", "lon"), np.zeros((3, 4, 5), "i2"), {"scale_factor": np.array([0.5])})}, set()),
    ],
)
def test_what_does_no_harm_is_taken(changes: dict[str, Any], told: set[str]) -> None:
    assert {kind for kind, _ in check(cube(**changes))} == told


def words_of(kind: str, raw: xr.Dataset) -> list[str]:
    return [words for each, words in check(raw) if each == kind]


def placeless(*names: str) -> xr.Dataset:
    return xr.Dataset({name: ("time", np.zeros(3)) for name in names}, {"time": ("time", [0.0, 1, 2], TIME)})


def test_one_and_several_without_a_place_are_told_in_whole_sentences() -> None:
    assert words_of("no-place", placeless("nino")) == [
        "it is unknown where 'nino' is: it has no place, so no box finds it, and no map shows it"
    ]
    assert words_of("no-place", placeless("nino", "soi")) == [
        "it is unknown where 'nino', 'soi' are: they have no place, so no box finds them, and no map shows them"
    ]
    beside = cube(u=(("time", "eta"), np.zeros((3, 2))))
    assert words_of("no-place", beside) == ["it is unknown where 'u' is: it has no place, so no box finds it, and no map shows it"]


def test_what_is_on_no_grid_is_advised_only_what_works() -> None:
    """The flag named three of the variables, also ones that no dataset can have alone."""
    raw = cube(
        s_w=(("s_w",), [-1.0, -0.5], {"axis": "Z", "standard_name": "ocean_s_coordinate"}),
        Cs_w=(("s_w",), [0.1, 0.2]),
        nudging=(("tracer",), [1.0, 2]),
    )
    (words,) = words_of("other-grids", raw)
    assert words.startswith("'Cs_w', 'nudging' have neither a place nor a time that is known: they are in")
    assert words.endswith("; to query 'Cs_w', publish a separate dataset with --variables Cs_w")
    check(raw[["Cs_w", "s_w"]])
    (words,) = words_of("other-grids", cube(nudging=(("tracer",), [1.0, 2])))
    assert words.startswith("'nudging' has neither a place nor a time that is known: it is in")
    assert words.endswith("no OGC or EDR query has it")
    with pytest.raises(SourceRejected):
        check(raw[["nudging"]])


def test_the_repair_of_a_time_without_a_date_fits_it() -> None:
    """A dimension has no variable to read dates from, and seconds since the start of a run are no dates."""
    since = cube(time=(("time",), [0.0, 3600, 7200], {"units": "second"}))
    (words,) = words_of("undated-time", since)
    step = shlex.split(words.partition("ingest with ")[2].partition(", with that date")[0])
    assert step[0] == "--normalise"
    steps = plain((NormaliseStep.model_validate(strictyaml.parse(step[1], "--normalise").value),))
    mended = normalise(since, steps)
    assert words_of("undated-time", mended) == []
    assert next(axis.kind for axis in find(mended).axes) == "t"
    for units in ("months", None):
        given = {} if units is None else {"units": units}
        without = cube(time=(("time",), np.arange(3.0), {**given, "standard_name": "time"}))
        (words,) = words_of("undated-time", without)
        assert f"{units or 'days'} since 2000-01-01" in words
        assert "from_variable" not in words, "0, 1 and 2 are no dates"
        step = shlex.split(words.partition("ingest with ")[2].partition(", with that date")[0])[1]
        mended = normalise(without, plain((NormaliseStep.model_validate(strictyaml.parse(step, "--normalise").value),)))
        assert next(axis.kind for axis in find(mended).axes) == "t"
    for name in ("time", "Time"):
        bare = cube().drop_vars("time").rename({"time": name} if name != "time" else {})
        (words,) = words_of("undated-time", bare)
        assert "its 3 values" in words
        assert "from_variable" not in words
        step = shlex.split(words.partition("ingest with ")[2].partition(", with its")[0])[1].replace("…", "0, 6, 12")
        mended = normalise(bare, plain((NormaliseStep.model_validate(strictyaml.parse(step, "--normalise").value),)))
        assert mended.variables[name].values.tolist() == [0, 6, 12]
        assert next(axis.kind for axis in find(mended).axes) == "t"


def test_a_time_that_one_variable_may_say_is_told_once() -> None:
    """WRF writes texts along its dimension Time, which has no variable of its own."""
    texts = np.array(["2005-08-28_00:00:00", "2005-08-28_06:00:00", "2005-08-28_12:00:00"])
    raw = cube().drop_vars("time").rename_dims(time="Time").assign(Times=("Time", texts))
    (words,) = words_of("undated-time", raw)
    assert "from_variable: Times" in words


@pytest.mark.parametrize(
    "hidden",
    [
        {"lon": (("lon",), [0.0, 10, 20, 30, 40], {**EAST, "_FillValue": 0.0})},
        {"lon": (("lon",), [-21.0, -9, 0, 11, 20], {**EAST, "_FillValue": 0.0})},
        {"time": (("time",), np.array([0, 31, 60]), {**TIME, "_FillValue": 0})},
        {"time": (("time",), [0.0, 31, 60], {**TIME, "_FillValue": 0.0})},
    ],
    ids=["even", "uneven", "time", "time-float"],
)
def test_a_label_that_its_fill_value_hides_is_not_advised_away(hidden: dict[str, Any]) -> None:
    """The advice was to leave out its row, column or step, which are data: of Zarr v2 with its fill_value 0, the first."""
    raw = cube(**hidden)
    [name] = hidden
    with pytest.raises(SourceRejected) as caught:
        check(raw)
    assert "is 0, which is its _FillValue too" in caught.value.message
    mended = normalise(raw, pasted(caught.value))
    check(mended)
    assert next(axis for axis in find(mended).axes if axis.name == name).labels is not None


@pytest.mark.parametrize(
    "missing",
    [
        {"lat": (("lat",), [10.0, 20, 9999, 30], {**NORTH, "_FillValue": 9999.0})},
        {"lat": (("lat",), [-9999.0, 10, 20, 30], {**NORTH, "_FillValue": -9999.0})},
        {"time": (("time",), [-9999.0, 0, 1], {**TIME, "_FillValue": -9999.0})},
    ],
)
def test_a_number_that_stands_for_no_label_is_advised_away(missing: dict[str, Any]) -> None:
    with pytest.raises(SourceRejected) as caught:
        check(cube(**missing))
    assert "drop_missing" in str(caught.value.next_step)


def pasted(refusal: SourceRejected) -> list[dict[str, Any]]:
    """Return the steps of the flags in the next step, as a shell and the command line read them."""
    words = shlex.split(str(refusal.next_step))
    steps = [strictyaml.parse(words[at + 1], "--normalise").value for at, word in enumerate(words) if word == "--normalise"]
    assert steps == refusal.members["repair"]
    return plain(tuple(NormaliseStep.model_validate(step) for step in steps))


@pytest.mark.parametrize(
    "changes",
    [
        {"sea temp's": (("time",), np.zeros(3))},
        {"Température": (("time",), np.zeros(3)), "sst 2": (("time",), np.zeros(3))},
        {"SST": (("time",), np.zeros(3))},
        {"lon": (("lon",), [0.0, 2, 1, 3, 4], EAST)},
        {"time": (("time",), [2.0, 0, 1], TIME)},
        {"time": (("time",), [2.0, 0, 1], TIME), "a b": (("time",), np.zeros(3))},
    ],
)
def test_what_the_next_step_says_cures_it_when_pasted(changes: dict[str, Any]) -> None:
    raw = cube(**changes)
    for _ in range(2):  # names first, then what only a look at the axes finds
        try:
            check(raw)
            break
        except SourceRejected as refusal:
            raw = normalise(raw, pasted(refusal))
    check(raw)


def test_every_problem_is_reported_with_its_place() -> None:
    raw = cube(
        **{
            "a b": (("time",), np.zeros(3)),
            "p": (("time",), np.zeros(3, "i2"), {"scale_factor": 0.0}),
            "d": (("time",), np.zeros(3), {"units": "days since yesterday"}),
        }
    )
    with pytest.raises(SourceRejected, match=r"'a b'.*\(and 2 more\)") as caught:
        check(raw)
    assert [(each.loc, each.kind) for each in caught.value.errors] == [
        (("variables", "a b"), "bad-text"),
        (("variables", "p", "scale_factor"), "bad-coordinates"),
        (("variables", "d"), "bad-time"),
    ]
    assert set(droppable(raw, caught.value)) == {"a b", "p", "d"}


def test_a_coordinate_is_not_left_out_without_its_fields() -> None:
    raw = cube(lat=(("lat",), [40.0, np.nan, 20, 10], NORTH), series=(("time",), np.zeros(3), {}))
    with pytest.raises(SourceRejected) as caught:
        check(raw)
    assert set(droppable(raw, caught.value)) == {"lat", "sst"}


@pytest.mark.parametrize("words", ["c", "c: lon lat", "wgs84: lat lon c: lon lat"])
def test_a_grid_mapping_is_not_left_out_without_its_fields(words: str) -> None:
    """They would be published without their reference system."""
    raw = cube(c=((), 0, {"grid_mapping_name": "latitude_longitude"}))
    raw.sst.attrs["grid_mapping"] = words
    with pytest.raises(SourceRejected) as caught:
        check(raw)
    assert droppable(raw, caught.value) == {}
    with pytest.raises(SourceRejected) as caught:
        check(raw.assign(series=raw.sst[:, 0, 0].assign_attrs(grid_mapping="")))
    assert set(droppable(raw.assign(series=("time", np.zeros(3))), caught.value)) == {"c", "sst"}


@pytest.mark.parametrize("lon", [[170.0, 175, -180, -175, -170], [350.0, 355, 0, 5, 10], [5.0, 0, 355, 350, 345]])
def test_longitudes_that_jump_by_a_turn_are_taken_as_they_are(lon: list[float]) -> None:
    raw = cube(lon=(("lon",), lon, EAST))
    assert [kind for kind, _ in check(raw)] == ["labels-jump"]
    west, _, east, _ = describe(raw).spatial.bbox
    assert (east - west) % 360 == 25


@pytest.mark.parametrize(
    ("lon", "words"),
    [
        ([170.0, 175, -180, 178, -170], "changes direction"),
        ([0.0, 90, 180, 270, 10], "changes direction"),
        ([0.0, 1, 1, 2, 3], "same label"),
    ],
)
def test_longitudes_that_go_to_and_fro_are_refused(lon: list[float], words: str) -> None:
    with pytest.raises(SourceRejected, match=words):
        check(cube(lon=(("lon",), lon, EAST)))


def test_missing_dates_among_data_are_missing_data() -> None:
    when = np.full((4, 5), np.iinfo("int64").min)
    check(cube(when=(("lat", "lon"), when, {"units": "days since 2001-01-05", "calendar": "proleptic_gregorian"})))


GRIDS = [
    # attributes are read first: names that say otherwise do not count
    (
        {
            "lat": (("lat",), [10.0, 20, 30, 40], {"axis": "X", "standard_name": "longitude", "units": "degrees_east"}),
            "lon": (("lon",), [1.0, 2, 3, 4, 5], {"standard_name": "latitude", "units": "degrees_north"}),
        },
        ("rectilinear", "lat", "lon"),
    ),
    # then units, then names
    ({"lat": (("lat",), [10.0, 20, 30, 40], NORTH), "lon": (("lon",), [1.0, 2, 3, 4, 5], EAST)}, ("rectilinear", "lon", "lat")),
    ({"lat": (("lat",), [10.0, 20, 30, 40]), "lon": (("lon",), [1.0, 2, 3, 4, 5])}, ("rectilinear", "lon", "lat")),
    # one axis alone is no place
    ({"lon": None}, ("none", None, None)),
    # labels under another name than their dimension's
    ({"lon": None, "east": (("lon",), [1.0, 2, 3, 4, 5], EAST)}, ("rectilinear", "east", "lat")),
    # two-dimensional positions
    (
        {
            "lon": None,
            "lat": None,
            "nav_lon": (("lat", "lon"), np.zeros((4, 5)) + np.arange(5.0), EAST),
            "nav_lat": (("lat", "lon"), np.zeros((4, 5)) + np.arange(4.0)[:, None], NORTH),
        },
        ("curvilinear", "nav_lon", "nav_lat"),
    ),
    # metres without a reference system are no place
    (
        {
            "lat": (("lat",), [10.0, 20, 30, 40], {"standard_name": "projection_y_coordinate", "units": "m"}),
            "lon": (("lon",), [1.0, 2, 3, 4, 5], {"standard_name": "projection_x_coordinate", "units": "m"}),
        },
        ("none", None, None),
    ),
]


@pytest.mark.parametrize(("changes", "grid"), GRIDS, ids=range(len(GRIDS)))
def test_axes_are_found_by_cf(changes: dict[str, Any], grid: tuple[str, str | None, str | None]) -> None:
    found = find(cube(**changes))
    assert (found.family, found.x, found.y) == grid


def test_scalar_coordinates_are_axes_of_one_label() -> None:
    raw = cube(
        sst=(("time", "lat", "lon"), np.zeros((3, 4, 5), "f4"), {"coordinates": "height realization"}),
        height=((), 2.0, {"units": "m", "standard_name": "height", "positive": "up"}),
        realization=((), 7, {"standard_name": "realization"}),
        stray=((), 3.0, {"standard_name": "depth"}),
    )
    axes = {axis.name: axis for axis in describe(raw).axes}
    assert (axes["height"].kind, axes["height"].first, axes["height"].positive, axes["height"].scalar) == ("z", 2.0, "up", True)
    assert axes["realization"].kind == "member"
    assert "stray" not in axes


LEAD = {"standard_name": "forecast_period", "units": "hours"}
START = {"standard_name": "forecast_reference_time", "units": "hours since 2024-01-01"}
OF_STEPS = {"run": (("run",), [0.0, 24], START), "step": (("step",), [0.0, 6, 12], LEAD)}


def of_steps(*dimensions: str, **coords: Any) -> xr.Dataset:
    sizes = {"run": 2, "step": 3, "init": 2, "lat": 4, "lon": 5}
    data = cube().drop_dims("time").assign(t=(dimensions, np.zeros([sizes[each] for each in dimensions])))
    return data.assign_coords(coords)


@pytest.mark.parametrize(
    ("dimensions", "coords", "told"),
    [
        (("run", "step", "lat", "lon"), OF_STEPS, "the time of these data is the start of the forecast, 'run'"),
        (("step", "lat", "lon"), {"step": OF_STEPS["step"], "run": ((), 0.0, START)}, "the data have no time. Add start + step"),
        (("step", "lat", "lon"), {"step": OF_STEPS["step"]}, "the data have no time. Add start + step"),
        (
            ("init", "step", "lat", "lon"),
            {
                "init": (("init",), [0.0, 24], {"units": "hours since 2024-01-01"}),
                "step": (("step",), [1.0, 2, 3], {"units": "months"}),
            },
            "the time of these data is the start of the forecast, 'init'",
        ),
    ],
    ids=["runs and steps", "one run", "steps", "plain names"],
)
def test_a_forecast_without_the_times_of_its_values_says_so(dimensions: Any, coords: Any, told: str) -> None:
    raw = of_steps(*dimensions, **coords)
    (words,) = words_of("no-valid-time", raw)
    assert words.startswith("'step' counts from the start of a forecast")
    assert told in words
    # Its advice works: with the sum, nothing is missing, and the extent ends with the last of the times.
    run = next((each for each in ("run", "init") if each in raw.coords), None)
    units = {"units": "hours since 2024-01-01", "standard_name": "time"}
    times = raw["step"] if run is None else raw[run] + raw["step"]
    mended = raw.assign_coords(valid=(times.dims, times.values, units))
    assert words_of("no-valid-time", mended) == []
    temporal = describe(mended).temporal
    assert temporal is not None
    assert temporal.axis == "valid"
    assert temporal.end[:13] == str(np.datetime64("2024-01-01T00") + np.timedelta64(int(times.max()), "h"))


@pytest.mark.parametrize(
    "coords",
    [
        {"step": (("step",), [0.0, 0.0, 0.0], {"units": "hours"})},
        {"step": (("step",), [1.0, 2, 3], {"long_name": "step of the pump", "units": "1"})},
        {"step": (("step",), [0.0, 6, 12], LEAD), "run": (("run",), [0.0, 24], {**TIME, "standard_name": "time"})},
    ],
    ids=["analyses", "no lead", "times and leads"],
)
def test_what_has_its_times_is_not_told(coords: Any) -> None:
    """A time that is no start is the time of the values, as CF says: forecasts of different leads for the same times."""
    dimensions = ("run", "step", "lat", "lon") if "run" in coords else ("step", "lat", "lon")
    assert words_of("no-valid-time", of_steps(*dimensions, **coords)) == []


def test_forecasts_have_the_time_that_their_values_hold_at() -> None:
    lead = {"standard_name": "forecast_period", "units": "hours"}
    start = {"standard_name": "forecast_reference_time", "units": "hours since 2024-01-01"}
    raw = cube(
        sst=(("step", "lat", "lon"), np.zeros((3, 4, 5), "f4")),
        step=(("step",), [6.0, 12, 18], lead),
        valid_time=(("step",), [6.0, 12, 18], {"standard_name": "time", "units": "hours since 2024-01-01"}),
        time=((), 0.0, start),
    )
    temporal = describe(raw).temporal
    assert temporal is not None
    assert (temporal.axis, temporal.start, temporal.step) == ("valid_time", "2024-01-01T06:00:00Z", "PT6H")
    runs = describe(cube(time=(("time",), [0.0, 24, 48], start))).temporal
    assert runs is not None
    assert (runs.axis, runs.step) == ("time", "P1D")


def test_holes_between_periods_are_listed() -> None:
    days = {**TIME, "bounds": "time_bnds"}
    raw = cube(time=(("time",), [0.5, 3.5, 4.5], days), time_bnds=(("time", "bnds"), np.array([[0.0, 1], [3, 4], [4, 5]])))
    temporal = describe(raw).temporal
    assert temporal is not None
    assert (temporal.period_type, temporal.gaps) == ("daily", (("2000-01-02", "2000-01-03", 2),))
    even = describe(cube()).temporal
    assert even is not None
    assert even.gaps == ()


def test_fields_are_those_that_share_their_axes_or_those_that_are_named() -> None:
    raw = cube(
        u=(("time", "lat", "lon"), np.zeros((3, 4, 5), "f4")),
        area=(("lat", "lon"), np.zeros((4, 5), "f4")),
        rate=(("time",), np.zeros(3, "f4")),
    )
    # Those of most company come first; what is on the same cells without a time is a field too.
    assert describe(raw).fields == ("sst", "u", "area")
    assert describe(raw, fields=("area",)).fields == ("area",)
    assert describe(raw, fields=("area",)).temporal is None
    with pytest.raises(VariablesMismatch, match="'missing'"):
        describe(raw, fields=("missing",))


def test_ranges_leave_out_what_is_missing_or_infinite() -> None:
    values = np.array([np.nan, -np.inf, 2.0, 5.0, np.inf, 3.0, np.nan, 4.0, 9.0, 9.0, 9.0, 9.0], "f4").reshape(3, 4)
    raw = cube(
        some=(("time", "lat"), values, {"_FillValue": np.float32(9)}),
        none=(("time", "lat"), np.full((3, 4), np.nan)),
        huge=(("time", "lat"), np.full((3, 4), np.inf)),
        flags=(("time", "lat"), values > 2),
    )
    described = describe(raw)
    ranges = {
        name: (described.variable(name).valid_min, described.variable(name).valid_max) for name in ("some", "none", "huge", "flags")
    }
    assert ranges == {"some": (2.0, 5.0), "none": (None, None), "huge": (None, None), "flags": (0.0, 1.0)}


def test_a_reference_system_may_not_read_files_of_the_host() -> None:
    from cubeport.cubes.crs import from_attributes

    assert from_attributes({"crs": "+proj=sinu +lon_0=0 +R=6371007.181"}) is not None
    for text in ("+init=epsg:4326", "+proj=longlat +nadgrids=@/etc/passwd", "+proj=geoc +geoidgrids=x", "file:/etc/passwd"):
        assert from_attributes({"crs": text}) is None
    assert from_attributes({"grid_mapping_name": "of no kind"}) is None
