"""The service's own documents, as values from values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cubeport.cubes.description import Axis, Crs, CubeDescription, Spatial, Temporal, Variable
from cubeport.documents import native
from cubeport.documents.texts import PublishedView, Texts, VersionRef

URL = "https://data.example/p"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
V = "a" * 32


def description(**changes: Any) -> CubeDescription:
    values: dict[str, Any] = {
        "axes": (
            Axis(name="y", dimension="y", kind="y", size=3, units="m", step=-1000.0),
            Axis(name="x", dimension="x", kind="x", size=4, units="m", step=1000.0),
        ),
        "variables": (
            Variable(
                name="t",
                role="data",
                dimensions=("y", "x"),
                shape=(3, 4),
                chunks=(3, 4),
                dtype="int16",
                decoded_dtype="float32",
                units="K",
            ),
        ),
        "fields": ("t",),
        "spatial": Spatial(
            family="projected",
            bbox=(1, 2, 3, 4),
            native_bbox=(0, 0, 4000, 3000),
            x="x",
            y="y",
            crs=Crs(name="LAEA", geographic=False),
        ),
    }
    return CubeDescription(**(values | changes))


def shown(cube: CubeDescription | None = None, texts: dict[str, Any] | None = None, **changes: Any) -> PublishedView:
    values: dict[str, Any] = {
        "texts": Texts(**({"dataset_id": "d", "title": "D", "description": "all of it"} | (texts or {}))),
        "version": VersionRef(version_id=V, created_at=NOW, digest="d" * 64, size_bytes=5),
        "description": cube or description(),
        "sealed": {},
        "record_version": 1,
        "record_id": "r" * 32,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return PublishedView(**(values | changes))


def temporal(start: str, end: str, **changes: Any) -> Temporal:
    return Temporal(**({"axis": "time", "calendar": "standard", "start": start, "end": end, "count": 2} | changes))


class TestSpace:
    def test_projected_space_is_native_and_wgs84_beside_it(self) -> None:
        found = native.summary(shown(), URL)
        assert found.extent.spatial == native.Box(xmin=0, ymin=0, xmax=4000, ymax=3000)
        assert found.extent.spatial_wgs84 == (1, 2, 3, 4)
        assert (found.crs, found.resolution, found.variables[0].dtype) == ("LAEA", "1 km", "float32")

    def test_geographic_space_is_crs84(self) -> None:
        spatial = Spatial(family="rectilinear", bbox=(170, -5, -170, 5), native_bbox=(170, -5, 190, 5), x="x", y="y")
        found = native.summary(shown(description(spatial=spatial)), URL)
        assert found.extent.spatial == native.Box(xmin=170, ymin=-5, xmax=-170, ymax=5)
        assert (found.extent.spatial_wgs84, found.crs) == (None, "OGC:CRS84")

    def test_without_position_there_is_no_space(self) -> None:
        spatial = Spatial(family="none", bbox=(-180, -90, 180, 90))
        found = native.summary(shown(description(spatial=spatial)), URL)
        assert (found.extent.spatial, found.crs, native.grid(description(spatial=spatial))) == (None, None, None)

    def test_the_grid_keeps_the_sign_of_its_steps(self) -> None:
        assert native.grid(description()) == native.Grid(shape=(3, 4), step=(-1000.0, 1000.0), crs="LAEA")


class TestTime:
    @pytest.mark.parametrize(
        ("label", "kind", "calendar", "expected"),
        [
            ("2024-01-31T18:30:00Z", "hourly", "standard", "2024-01-31T18"),
            ("2024-01-31T17:00:00Z", "6-hourly", "standard", "2024-01-31T12"),
            ("2024-01-31T12:00:00Z", "daily", "standard", "2024-01-31"),
            ("2021-01-03T00:00:00Z", "weekly", "standard", "2020-W53"),
            ("2024-01-31T00:00:00Z", "pentad", "standard", "2024-01-26"),
            ("2024-01-31T00:00:00Z", "dekadal", "standard", "2024-01-21"),
            ("2095-02-30T00:00:00Z", "daily", "360_day", "2095-02-30"),
            ("2024-01-16T00:00:00Z", "monthly", "noleap", "2024-01"),
            ("0850-07-02T00:00:00Z", "yearly", "standard", "0850"),
            ("2024-01-31T18:03:20Z", "irregular", "standard", "2024-01-31T18:03:20Z"),
            ("2024-01-31T18:03:20Z", "climatology", "standard", "2024-01-31T18:03:20Z"),
        ],
    )
    def test_a_label_is_told_as_its_period(self, label: str, kind: str, calendar: str, expected: str) -> None:
        assert native.period(label, kind, calendar) == expected

    def test_the_type_is_the_measured_one_when_it_is_not_named(self) -> None:
        when = temporal("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", step=None)
        assert native.period_type(None, when) == "irregular"
        assert native.period_type(None, when.model_copy(update={"period_type": "pentad"})) == "pentad"
        assert native.period_type("dekadal", when.model_copy(update={"period_type": "pentad"})) == "dekadal"

    def test_without_time(self) -> None:
        found = native.summary(shown(), URL)
        assert (found.period_type, found.extent.temporal, found.calendar) == ("none", None, None)

    def test_coverage_says_what_was_measured(self) -> None:
        when = temporal("2024-01-16T00:00:00Z", "2024-04-16T00:00:00Z", step=None, count=3).model_copy(
            update={
                "period_type": "monthly",
                "first_period": "2024-01",
                "last_period": "2024-04",
                "gaps": (("2024-03", "2024-03", 1),),
            }
        )
        found = native.coverage(description(temporal=when), "monthly").temporal
        assert found == native.TemporalCoverage(
            start="2024-01", end="2024-04", count=3, gaps=(native.Gap(start="2024-03", end="2024-03", count=1),)
        )

    def test_gaps_are_told_in_the_kind_that_was_named(self) -> None:
        # With a year missing, no kind can be told from the labels.
        labels = tuple(f"{year}-{month:02d}-16T00:00:00Z" for year in (2000, 2002) for month in range(1, 13))
        when = temporal(labels[0], labels[-1], step=None, count=24).model_copy(
            update={"period_type": "irregular", "values": labels}
        )
        found = native.coverage(description(temporal=when), "monthly").temporal
        assert found is not None
        assert found.gaps == (native.Gap(start="2001-01", end="2001-12", count=12),)
        assert native.coverage(description(temporal=when)).temporal == native.TemporalCoverage(
            start=labels[0], end=labels[-1], count=24
        )

    @pytest.mark.parametrize(
        ("labels", "step", "kind", "found"),
        [
            (("2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"), "P2D", "daily", ["2024-01-02", "2024-01-04", "2024-01-06"]),
            (("2024-01-01T00:00:00Z", "2024-01-01T09:00:00Z"), "PT3H", "3-hourly", []),
            (("2024-01-31T00:00:00Z", "2024-07-31T00:00:00Z"), "P2M", "monthly", ["2024-02", "2024-04", "2024-06"]),
            (("2000-07-01T00:00:00Z", "2006-07-01T00:00:00Z"), "P2Y", "yearly", ["2001", "2003", "2005"]),
            (("2024-01-16T12:00:00Z", "2024-07-16T12:00:00Z"), "P2M", "daily", []),  # the days of its steps are not known
        ],
    )
    def test_gaps_of_a_coarser_even_step_are_told(self, labels: tuple[str, str], step: str, kind: str, found: list[str]) -> None:
        # Each second day of a daily series: the labels are even and not listed, and the kind that was named is finer.
        when = temporal(*labels, step=step, count=4).model_copy(update={"period_type": "irregular"})
        told = native.gaps(when, kind)
        assert [each.start for each in told] == [each.end for each in told] == found


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (["2004-11-16", "2004-12-16"], ["Nov", "Dec"]),
        (["2000-01-16", "2000-04-16", "2000-07-16", "2000-10-16"], ["DJF", "MAM", "JJA", "SON"]),
        (["2000-12-01", "2001-03-01", "2001-06-01", "2001-09-01"], ["DJF", "MAM", "JJA", "SON"]),
        (["2000-01-01", "2000-02-01", "2000-03-01", "2000-04-01"], ["Jan", "Feb", "Mar", "Apr"]),
        (["2000-01-01", "2000-01-06", "2000-01-11"], ["01-01", "01-06", "01-11"]),
    ],
)
def test_the_steps_of_a_climatology_have_names_without_a_year(days: list[str], expected: list[str]) -> None:
    assert native.period_labels([f"{each}T00:00:00Z" for each in days], "climatology") == expected


class TestLinks:
    def test_only_what_answers_is_linked(self) -> None:
        rels = [link.rel for link in native.summary(shown(), URL).links]
        assert rels == ["self", "versions", "zarr", "stac", "ogc-collection", "opendap", "zarr-v2", "download"]
        assert [link.rel for link in native.summary(shown(published=False), URL).links] == ["self", "versions"]

    def test_pinned_links_name_the_version(self) -> None:
        found = {link.rel: link.href for link in native.summary(shown(pinned=True), URL).links}
        assert found["zarr"] == f"{URL}/zarr/d@{V}"
        assert found["versions"] == f"{URL}/datasets/d/versions"

    def test_a_removed_version_links_to_itself_alone(self) -> None:
        fields = {
            "version_id": V, "seq": 1, "parent_id": None, "kind": "created", "created_at": NOW, "format": "zarr", "copies": (),
            "coverage": {}, "request_scope": {}, "added": (), "replaced": (), "size_bytes": 1, "digest": "d", "ingestion_id": "i",
            "template_digest": None,
            "sources": "never shown",
        }  # fmt: skip
        removed = native.version(fields, dataset_id="d", public_url=URL, state="removed", tags=["b", "a"])
        assert ([link.rel for link in removed.links], removed.tags) == (["self"], ("a", "b"))
        kept = native.version(fields, dataset_id="d", public_url=URL, state="retained")
        assert [link.rel for link in kept.links] == ["self", "zarr", "stac", "manifest"]


def test_texts_win_over_what_the_data_say() -> None:
    found = native.summary(shown(texts={"units": "°C", "resolution": "1 km", "period_type": "monthly"}), URL)
    assert (found.units, found.resolution, found.period_type) == ("°C", "1 km", "monthly")


def test_a_detail_is_its_summary_and_more() -> None:
    detail = native.detail(shown(), URL, versions=[]).model_dump(mode="json")
    summary = native.summary(shown(), URL).model_dump(mode="json")
    assert {name: detail[name] for name in summary} == summary
    assert detail["sync"] == {"kind": "static", "execution": "append", "schedule": None, "last_run": None, "next_run": None}


def test_a_list_counts_only_when_it_was_counted() -> None:
    assert native.listing("XList", [], []) == {"kind": "XList", "items": [], "links": [], "number_returned": 0}
    assert native.listing("XList", [], [], matched=7)["number_matched"] == 7


def test_a_licence_that_nobody_stated_is_null() -> None:
    assert native.summary(shown(), URL).license is None
    assert native.summary(shown(texts={"license": "CC-BY-4.0"}), URL).license == "CC-BY-4.0"
