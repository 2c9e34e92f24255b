"""Zone sets from GeoJSON: what is taken, and what is refused with the feature that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from shapely.geometry import mapping

from cubeport.cubes.zones import of_box, read_zone_set
from cubeport.errors import InvalidRequest, NotFound


def feature(geometry: object, id: object = None, **properties: object) -> dict[str, object]:
    made: dict[str, object] = {"type": "Feature", "properties": properties, "geometry": geometry}
    return made if id is None else made | {"id": id}


def collection(*features: object, **members: object) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": list(features), **members}


BOX = mapping(shapely.box(0, 0, 10, 10))


def test_a_zone_has_the_id_and_name_of_its_feature() -> None:
    found = read_zone_set("d", collection(feature(BOX, 7, name="Seven", level="2", parent="R"), feature(BOX, id="b"), title="Two"))
    assert [(each.id, each.name, each.level, each.parent) for each in found.zones] == [
        ("7", "Seven", "2", "R"),
        ("b", "b", None, None),
    ]
    assert found.title == "Two"
    assert found.bbox == (0, 0, 10, 10)


def test_a_property_identifies_zones_when_it_is_named() -> None:
    wild = collection(feature(BOX, code="A1", shapeName="Ann"), feature(BOX, code="A2", shapeName="Bea"))
    with pytest.raises(InvalidRequest) as refused:
        read_zone_set("d", wild)
    assert refused.value.next_step is not None
    assert "id_property=code" in refused.value.next_step
    found = read_zone_set("d", wild, id_property="code")
    assert [(each.id, each.name) for each in found.zones] == [("A1", "Ann"), ("A2", "Bea")]
    assert read_zone_set("d", wild | {"id_property": "code", "name_property": "code"}).zones[0].name == "A1"


@pytest.mark.parametrize(
    ("features", "step"),
    [
        ([(BOX, {"id": "x", "code": "A"}), (BOX, {"id": "x", "code": "B"})], "id_property=code"),
        ([(BOX, {})], "an id of its own"),
        ([("metres", {"id": "x"})], "ogr2ogr -t_srs EPSG:4326"),
        ([("bow tie", {"id": "x"})], "ogr2ogr -makevalid"),
    ],
)
def test_each_refusal_of_zones_says_what_to_do(features: list[tuple[Any, dict[str, Any]]], step: str) -> None:
    shapes = {"metres": mapping(shapely.box(5e5, 5e6, 6e5, 6e6)), "bow tie": BOWTIE}
    with pytest.raises(InvalidRequest) as refused:
        read_zone_set("d", collection(*(feature(shapes.get(str(shape), shape), **given) for shape, given in features)))
    assert step in (refused.value.next_step or "")


def test_the_document_of_a_set_reads_as_the_same_set() -> None:
    holed = mapping(shapely.box(0, 0, 10, 10).difference(shapely.box(2, 2, 3, 3)))
    found = read_zone_set("d", collection(feature(holed, "x", name="X", code=5), title="T", license="CC0-1.0"))
    again = read_zone_set("d", found.document())
    assert again == found
    assert again.digest == found.digest
    assert again.zones[0].properties["code"] == 5


BOWTIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (BOWTIE, "Self-intersection"),
        ({"type": "Point", "coordinates": [0, 0]}, "must have a Polygon"),
        (None, "must have a Polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "not those of a polygon"),
        ({"type": "Polygon", "coordinates": "no"}, "not those of a polygon"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        (mapping(shapely.box(0, 0, 10, 95)), "within longitudes"),
        (mapping(shapely.box(-200, 0, 200, 10)), "wider than 360"),
    ],
    ids=["bowtie", "point", "none", "two-positions", "text", "empty", "beyond-pole", "too-wide"],
)
def test_a_feature_that_is_not_a_polygon_is_refused_by_its_id(geometry: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match="Feature bad") as refused:
        read_zone_set("d", collection(feature(BOX, "good"), feature(geometry, "bad")))
    assert words in refused.value.message
    assert refused.value.errors[0].loc == ("features", "bad")


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        read_zone_set("d", collection(feature(BOX, "a"), feature(BOX, "a")))


def test_coordinates_of_another_system_are_refused() -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::27700"}}
    with pytest.raises(InvalidRequest, match="crs"):
        read_zone_set("d", collection(feature(BOX, "a"), crs=crs))
    plain = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert read_zone_set("d", collection(feature(BOX, "a"), crs=plain)).zones


def test_some_zones_of_a_set() -> None:
    found = read_zone_set("d", collection(feature(BOX, "a"), feature(BOX, "b"), feature(BOX, "c")))
    assert [zone.id for zone in found.taking(["c", "a"]).zones] == ["a", "c"]
    with pytest.raises(NotFound, match="no zone x"):
        found.taking(["a", "x"])


def test_a_box_over_the_antimeridian_runs_on() -> None:
    assert of_box("pacific", None, (160, -5, -80, 5)).zones[0].geometry.bounds == (160, -5, 280, 5)
