"""CoverageJSON from arrays: domains, ranges, references and parameters, valid by the schema and by another's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from covjson_pydantic.coverage import Coverage, CoverageCollection
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jsonschema.validators import validator_for

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, Crs, CubeDescription, Spatial, Temporal, Variable
from cubeport.cubes.selection import order
from cubeport.cubes.windows import IndexRange, Mask, Window, Windows
from cubeport.documents.coveragejson import encode, groups, ucum, unit_of
from cubeport.errors import NotAcceptable

URL = "https://data.example"
WORLD = (-180.0, -90.0, 180.0, 90.0)
KINDS = {"t": "t", "z": "z", "y": "y", "x": "x", "member": "member", "station": "category", "i": "index", "j": "index"}


def variable(name: str, dims: str, sizes: dict[str, int], **more: Any) -> Variable:
    shape = tuple(sizes[each] for each in dims.split())
    values = {
        "role": "data",
        "dtype": "float32",
        "decoded_dtype": "float32",
        "dimensions": tuple(dims.split()),
        "shape": shape,
        "chunks": shape,
    }
    return Variable.model_validate({"name": name, **values, **more})


def cut(
    fields: dict[str, tuple[str, Any]],
    labels: dict[str, Any],
    *,
    family: str = "rectilinear",
    crs: Crs | None = None,
    calendar: str = "standard",
    scalars: tuple[str, ...] = (),
    positions: Any = None,
    mask: Any = None,
    units: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> Cut:
    """A cut that takes everything of what is given."""
    sizes = {
        dim: size for dims, values in fields.values() for dim, size in zip(dims.split(), np.asarray(values).shape, strict=True)
    }
    named = {name: np.atleast_1d(np.asarray(values)) for name, values in labels.items()}
    axes = tuple(
        Axis(
            name=name,
            dimension=name,
            kind=KINDS[name],
            size=named[name].size if name in named else sizes[name],
            units=(units or {}).get(name),
            scalar=name in scalars,
            values=tuple(named[name].tolist()) if name in named and named[name].dtype.kind in "UO" else None,
        )  # type: ignore[arg-type]
        for name in [*sizes, *scalars]
    )
    variables = [variable(name, dims, sizes, **(more or {}).get(name, {})) for name, (dims, _) in fields.items()]
    if positions is not None:
        variables += [variable(name, "j i", sizes, role="auxiliary") for name in ("lon", "lat")]
    description = CubeDescription(
        axes=axes,
        variables=tuple(variables),
        fields=tuple(fields),
        spatial=Spatial(family=family, bbox=WORLD, x="lon", y="lat", crs=crs),  # type: ignore[arg-type]
        temporal=Temporal(axis="t", calendar=calendar, start="a", end="b", count=1) if "t" in named else None,
    )
    windows = Windows(tuple(fields), {dim: Window(dim, (IndexRange(0, size),)) for dim, size in sizes.items()}, mask)
    return Cut(description, windows, named, {}, {name: np.asarray(values) for name, (_, values) in fields.items()}, positions)


@pytest.fixture(scope="module")
def written(schemas: Path) -> Callable[..., Any]:
    """Encode, validate by the schema and by covjson-pydantic, and return the document."""
    schema = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())
    validator = validator_for(schema)(schema)

    def check(it: Cut, *, pydantic: bool = True) -> Any:
        content = encode(it, public_url=URL)
        document = json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert [error.message for error in validator.iter_errors(document)] == []
        if pydantic:
            (CoverageCollection if document["type"] == "CoverageCollection" else Coverage).model_validate_json(content)
        return document

    return check


JAN, FEB = order((2000, 1, 31, 0, 0, 0, 0)), order((2000, 2, 30, 12, 0, 0, 500_000))


def test_a_grid_keeps_the_order_of_the_store(written: Any) -> None:
    values = np.arange(12, dtype="float32").reshape(2, 3, 2) / 7
    document = written(cut({"tas": ("t x y", values)}, {"t": [JAN, JAN + 1], "x": [10.0, 11, 12], "y": [50.0, 49]}))
    domain = document["domain"]
    assert domain["domainType"] == "Grid"
    assert domain["axes"]["y"]["values"] == [50, 49]
    assert document["ranges"]["tas"]["axisNames"] == ["t", "x", "y"]
    assert document["ranges"]["tas"]["shape"] == [2, 3, 2]
    assert np.array_equal(np.array(document["ranges"]["tas"]["values"], dtype="float32"), values.ravel())


def test_float32_stays_float32_and_what_is_no_number_is_null(written: Any) -> None:
    it = cut({"tas": ("y x", np.array([[0.1, np.nan], [np.inf, -np.inf]], dtype="float32"))}, {"x": [0.0, 1], "y": [0.0, 1]})
    assert b'"values":[0.1,null,null,null]' in encode(it, public_url=URL)
    written(it)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("int16", "integer"),
        ("uint8", "integer"),
        (">i4", "integer"),
        ("bool", "integer"),
        ("float16", "float"),
        (">f8", "float"),
        ("U3", "string"),
        ("object", "string"),
    ],
)
def test_ranges_say_their_type(written: Any, dtype: str, kind: str) -> None:
    values = np.array([["a", "b"], ["c", "d"]] if kind == "string" else [[0, 1], [1, 0]], dtype=dtype)
    told = written(cut({"v": ("y x", values)}, {"x": [0.0, 1], "y": [0.0, 1]}))["ranges"]["v"]
    assert told["dataType"] == kind
    assert told["values"] == values.ravel().tolist()


def test_scalars_are_axes_of_one_label(written: Any) -> None:
    document = written(
        cut(
            {"tas": ("y x", np.zeros((2, 2), "f4"))},
            {"x": [0.0, 1], "y": [0.0, 1], "z": 2.0, "t": JAN},
            scalars=("z", "t"),
            units={"z": "m"},
        )
    )
    assert document["domain"]["axes"]["z"]["values"] == [2]
    assert document["domain"]["axes"]["t"]["values"] == ["2000-01-31T00:00:00Z"]
    assert dict(zip(document["ranges"]["tas"]["axisNames"], document["ranges"]["tas"]["shape"], strict=True)) == {
        "t": 1,
        "z": 1,
        "y": 2,
        "x": 2,
    }
    systems = {"".join(each["coordinates"]): each["system"] for each in document["domain"]["referencing"]}
    assert systems["z"]["cs"]["csAxes"][0]["direction"] == "up"
    assert systems["z"]["cs"]["csAxes"][0]["unit"]["symbol"] == {"value": "m", "type": "http://www.opengis.net/def/uom/UCUM/"}
    assert systems["xy"] == {"type": "GeographicCRS", "id": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}


def test_a_calendar_of_its_own_keeps_its_days(written: Any) -> None:
    it = cut({"tas": ("t", np.zeros(2, "f4"))}, {"t": [JAN, FEB]}, calendar="360_day", family="none")
    document = written(it, pydantic=False)
    assert document["domain"]["axes"]["t"]["values"][1] == "2000-02-30T12:00:00.5Z"
    assert document["domain"]["referencing"][0]["system"] == {"type": "TemporalRS", "calendar": f"{URL}/docs/calendars#360_day"}
    assert "domainType" not in document["domain"]


def test_any_other_axis_is_a_collection(written: Any) -> None:
    values = np.arange(2 * 3 * 2, dtype="float32").reshape(2, 3, 2)
    document = written(cut({"tas": ("y member x", values)}, {"x": [0.0, 1], "y": [0.0, 1], "member": np.array(["r1", "r2", "r3"])}))
    assert [each["id"] for each in document["coverages"]] == ["member=r1", "member=r2", "member=r3"]
    for at, coverage in enumerate(document["coverages"]):
        assert coverage["ranges"]["tas"]["values"] == values[:, at].ravel().tolist()
    one = written(cut({"tas": ("y member x", values[:, :1])}, {"x": [0.0, 1], "y": [0.0, 1], "member": np.array(["r1"])}))
    assert (one["type"], one["id"]) == ("Coverage", "member=r1")


def test_two_other_axes_are_their_product(written: Any) -> None:
    values = np.arange(2 * 2 * 2, dtype="float32").reshape(2, 2, 2)
    document = written(cut({"tas": ("member i y", values)}, {"y": [0.0, 1], "member": np.array(["a", "b"])}))
    assert [each["id"] for each in document["coverages"]] == ["member=a,i=0", "member=a,i=1", "member=b,i=0", "member=b,i=1"]
    assert document["coverages"][2]["ranges"]["tas"]["values"] == [4, 5]


def test_fields_of_other_dimensions_have_a_domain_of_their_own(written: Any) -> None:
    it = cut(
        {"tas": ("z y x", np.zeros((3, 2, 2), "f4")), "mask": ("y x", np.ones((2, 2), "i1"))},
        {"x": [0.0, 1], "y": [0.0, 1], "z": [0.0, 5, 10]},
    )
    document = written(it)
    assert [list(each["ranges"]) for each in document["coverages"]] == [["tas"], ["mask"]]
    assert "z" not in document["coverages"][1]["domain"]["axes"]
    assert sum(group.coverages(it.windows) for group in groups(it.description, it.windows)) == 2


def test_cells_without_axes_are_points(written: Any) -> None:
    lon, lat = np.meshgrid([10.0, 11, 12], [50.0, 51])
    lon[0, 2] = np.nan
    mask = Mask(("j", "i"), np.array([[True, False, True], [True, True, False]]))
    values = np.arange(12, dtype="float32").reshape(2, 2, 3)
    document = written(
        cut({"ice": ("t j i", values)}, {"t": [JAN, JAN + 1]}, family="curvilinear", positions=(lon, lat), mask=mask)
    )
    assert document["domain"]["domainType"] == "MultiPointSeries"
    assert document["domain"]["axes"]["composite"]["values"] == [[10, 50], [10, 51], [11, 51]]
    assert document["ranges"]["ice"] == {
        "type": "NdArray",
        "dataType": "float",
        "axisNames": ["t", "composite"],
        "shape": [2, 3],
        "values": [0, 3, 4, 6, 9, 10],
    }
    turned = cut({"ice": ("i j", values[0].T)}, {}, family="curvilinear", positions=(lon, lat), mask=mask)
    document = written(turned)
    assert document["domain"]["domainType"] == "MultiPoint"
    assert document["ranges"]["ice"]["values"] == [0, 3, 4]


def test_heights_of_points_are_in_their_tuples_or_apart(written: Any) -> None:
    lon, lat = np.meshgrid([10.0, 11], [50.0])
    single = written(cut({"o": ("z j i", np.array([[[1, 2]]], "f4"))}, {"z": [5.0]}, family="curvilinear", positions=(lon, lat)))
    assert single["domain"]["axes"]["composite"]["values"] == [[10, 50, 5], [11, 50, 5]]
    assert single["ranges"]["o"]["values"] == [1, 2]
    several = written(
        cut({"o": ("z j i", np.array([[[1, 2]], [[3, 4]]], "f4"))}, {"z": [5.0, 6]}, family="curvilinear", positions=(lon, lat))
    )
    assert [(each["id"], each["ranges"]["o"]["values"]) for each in several["coverages"]] == [("z=5.0", [1, 2]), ("z=6.0", [3, 4])]


def test_native_systems_are_named_or_written_out(written: Any) -> None:
    def system(crs: Crs) -> Any:
        return written(cut({"v": ("y x", np.zeros((1, 1)))}, {"x": [0.0], "y": [0.0]}, family="projected", crs=crs))["domain"][
            "referencing"
        ][0]["system"]

    assert system(Crs(name="British", authority="EPSG:27700", geographic=False)) == {
        "type": "ProjectedCRS",
        "id": "http://www.opengis.net/def/crs/EPSG/0/27700",
    }
    assert system(Crs(name="Polar", wkt2="PROJCRS[…]", geographic=False)) == {
        "type": "ProjectedCRS",
        "description": {"en": "Polar"},
        "wkt": "PROJCRS[…]",
    }


def test_flags_are_categories(written: Any) -> None:
    more = {
        "qc": {
            "units": "1",
            "standard_name": "status_flag",
            "attributes": {"flag_values": [1, 2, 3], "flag_meanings": "good bad_data bad_data"},
        }
    }
    parameter = written(cut({"qc": ("y x", np.ones((1, 1), "i1"))}, {"x": [0.0], "y": [0.0]}, more=more))["parameters"]["qc"]
    assert parameter["categoryEncoding"] == {"good": 1, "bad_data": [2, 3]}
    assert parameter["observedProperty"]["categories"][1] == {"id": "bad_data", "label": {"en": "bad data"}}
    assert "unit" not in parameter


def test_parameters_name_what_is_observed(written: Any) -> None:
    more = {"tas": {"units": "K", "standard_name": "air_temperature", "long_name": "Temperature"}, "v": {}}
    it = cut({"tas": ("y x", np.ones((1, 1), "f4")), "v": ("y x", np.ones((1, 1), "f4"))}, {"x": [0.0], "y": [0.0]}, more=more)
    parameters = written(it)["parameters"]
    assert parameters["tas"]["observedProperty"] == {
        "id": "http://vocab.nerc.ac.uk/standard_name/air_temperature/",
        "label": {"en": "Temperature"},
    }
    assert parameters["v"] == {"type": "Parameter", "observedProperty": {"id": "v", "label": {"en": "v"}}}


@pytest.mark.parametrize(
    ("units", "code"),
    [
        ("K", "K"),
        ("kg m-2 s-1", "kg.m-2.s-1"),
        ("m s**-1", "m.s-1"),
        ("m/s", "m.s-1"),
        ("degC", "Cel"),
        ("degrees_north", "deg"),
        ("W m^-2", "W.m-2"),
        ("1", "1"),
        ("%", "%"),
        ("hPa", "hPa"),
        ("Sv", None),
        ("psu", None),
        ("kg m-2 fortnight-1", None),
        ("mm/day", "mm.d-1"),
        ("1/s", "s-1"),
    ],
)
def test_units_map_to_ucum_or_not_at_all(units: str, code: str | None) -> None:
    assert ucum(units) == code


def test_units_that_do_not_map_are_a_label() -> None:
    assert unit_of("psu") == {"label": {"en": "psu"}}
    assert unit_of("") is None
    assert unit_of(None) is None


def test_without_any_axis_there_is_no_coveragejson() -> None:
    with pytest.raises(NotAcceptable):
        encode(cut({"v": ("i", np.zeros(3))}, {}, family="none"), public_url=URL)


@given(arrays.arrays(st.sampled_from(["float32", "float64", "int32", "uint8"]), (2, 3), elements=None))
def test_numbers_are_read_back_exactly(values: Any) -> None:
    document = json.loads(encode(cut({"v": ("y x", values)}, {"x": [0.0, 1, 2], "y": [0.0, 1]}), public_url=URL))
    read = np.array([np.nan if each is None else each for each in document["ranges"]["v"]["values"]])
    finite = np.where(np.isfinite(values), values, np.nan) if values.dtype.kind == "f" else values
    assert np.array_equal(read.astype(values.dtype), finite.ravel(), equal_nan=values.dtype.kind == "f")
