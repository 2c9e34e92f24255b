"""Records and queries that the tests of backends generate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.models import (
    Artifact,
    BundleMemberLocator,
    CatalogRecord,
    ExternalURILocator,
    FSSpecLocator,
    InlineLocator,
    Lineage,
    LocalPathLocator,
    OpaqueLocator,
    PlannedPathLocator,
    TimeSpan,
    UnknownLocator,
)
from cubeport.catalog.query import Page, Query
from cubeport.catalog.terms import Term

_TEXTS = st.sampled_from(
    [
        *("", "a", "A", "b", "ab", "2018", "18", "true", "Ä", "ä", "straße", "STRASSE", "%", "_", "a%b", "a\\b", "a*", "?", 'a"b'),
        *("x" * 255 + "a", "x" * 256 + "b", "x" * 256 + "c", "İ", "日本", "a\nb", "active", "dataset", "primary", "path"),
        *("2020-01-01T00:00:00.000000Z", "derived_from", "k10"),
    ]
)
_NUMBERS = st.sampled_from([0, -0.0, 1, 1.0, 2, 7, 2018, 2018.5, -3, 1e300, 2**53, 2**53 + 1, 10**400, -(10**400)])
_SCALARS = _TEXTS | _NUMBERS | st.booleans()
_KEYS = st.sampled_from(["a", "b", "a.b", "title", "é", "metadata", "x y"])
_METADATA = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
_INSTANTS = st.sampled_from([datetime(2020, month, 1, tzinfo=UTC) for month in (1, 2, 3, 6)] + [datetime(1, 1, 1, tzinfo=UTC)])
FIRST = datetime(1, 1, 1, tzinfo=UTC)


def _span(ends: tuple[datetime | None, datetime | None]) -> TimeSpan | None:
    start, end = ends
    if start is None and end is None:
        return None
    return TimeSpan(start=start, end=end) if start is None or end is None else TimeSpan(start=min(start, end), end=max(start, end))


_SPANS = st.tuples(st.none() | _INSTANTS, st.none() | _INSTANTS).map(_span)
_BOXES = st.sampled_from(
    [
        *((-180, -90, 180, 90), (0, 0, 10, 10), (10, 10, 20, 20), (10.1, 10.1, 10.2, 10.2), (170, -5, -170, 5), (175, 0, 180, 1)),
        *((-180, 0, -175, 1), (179.999999999, 0, -179.999999999, 1), (5, 5, 5, 5), (0.1, 0.1, 0.1, 0.1)),
    ]
)


def every_locator(name: str) -> list[Any]:
    """Return one locator of each kind, including an unknown kind. *name* makes the managed paths distinct."""
    return [
        LocalPathLocator(path=f"{name}/a.nc", profile="default"),
        LocalPathLocator(path="/data/a.nc"),
        FSSpecLocator(urlpath=f"{name}/b.zarr", profile="bucket"),
        FSSpecLocator(urlpath="s3://bucket/b.zarr"),
        ExternalURILocator(uri="https://example.org/c.nc"),
        PlannedPathLocator(profile="default", path=f"{name}/d.nc"),
        OpaqueLocator(value="shelf 7"),
        OpaqueLocator(),
        InlineLocator(text="two\nlines ✓"),
        InlineLocator(data_base64="AAEC"),
        BundleMemberLocator(bundle=LocalPathLocator(path="/data/x.zip"), member="in/x.csv"),
        UnknownLocator.model_validate({"kind": "hologram", "plate": [1, {"deep": None}], "path": f"{name}/e", "z": 1.5}),
    ]


@st.composite
def record_lists(draw: st.DrawFn, prefix: str = "0", most: int = 8) -> list[CatalogRecord]:
    """Draw up to *most* records. Those of different prefixes share no id."""
    return [_draw_record(draw, f"{prefix}{i}") for i in range(draw(st.integers(0, most)))]


def _draw_record(draw: st.DrawFn, name: str) -> CatalogRecord:
    locators = every_locator(name)
    status = draw(st.sampled_from(["active", "active", "deprecated", "deleted"]))
    said: dict[str, Any] = {
        "id": f"{int(name, 16) * 7919 % 65536:04x}".ljust(28, "0") + f"{int(name, 16):04x}",
        "key": draw(st.sampled_from([None, f"k{name}", f"Ä {name}", "x" * 256 + name])),
        "kind": draw(st.sampled_from(["document", "dataset"])),
        "title": draw(st.none() | _TEXTS),
        "description": draw(st.none() | _TEXTS),
        "tags": draw(st.lists(_TEXTS.filter(lambda t: t.isprintable() and 0 < len(t) <= 128), max_size=2, unique=True)),
        "metadata": draw(_METADATA),
        "artifacts": [
            Artifact(
                artifact_id=f"{i:08x}",
                role=draw(st.sampled_from(["primary", "log"])),
                locator=locators[i],
                size_bytes=draw(st.none() | st.integers(0, 3)),
                metadata=draw(_METADATA),
            )
            for i in draw(st.sets(st.integers(0, len(locators) - 1), max_size=2))
        ],
        "lineage": [Lineage(rel=draw(st.sampled_from(["derived_from", "uses"])), target="urn:x")] if draw(st.booleans()) else [],
        "time": draw(st.none() | _SPANS),
        "bbox": draw(st.none() | _BOXES),
        "status": status,
        "deleted_from": "active" if status == "deleted" else None,
        "version": draw(st.integers(1, 3)),
        "created_at": draw(_INSTANTS),
        "created_by": draw(st.none() | _TEXTS),
    }
    return CatalogRecord(**said)


FIELDS = st.sampled_from(
    [
        *(
            "a",
            "b",
            '"a.b"',
            "a.b",
            "a.a",
            "title",
            "metadata.title",
            "metadata",
            "é",
            '"x y"',
            "description",
            "tags",
            "kind",
            "status",
        ),
        *("version", "model_version", "created_at", "created_by", "key", "id", "artifact.role", "artifact.size_bytes", "artifact"),
        *("artifact.locator.kind", "artifact.metadata.a", "lineage.rel", "time", "time.start", "time.end", "bbox", "schema_name"),
        *("operation_id", "deleted_from", "nothing"),
    ]
)
_TERMS = st.builds(
    Term,
    FIELDS,
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":", "~", "?"]),
    _SCALARS | st.lists(_SCALARS, max_size=3),
    st.booleans(),
)
_ORDERS = st.lists(st.builds("".join, st.tuples(st.sampled_from(["", "-"]), FIELDS)), max_size=3, unique=True)
QUERIES = st.builds(
    Query,
    where=st.lists(_TERMS, max_size=2),
    text=st.none() | st.sampled_from(["a", "strasse", "Ä", "a 2018", "!!", "k", "x" * 80, "日"]),
    time=st.none() | st.sampled_from(["2020", "2020-02", "../2020-01-15", "2020-03/..", "2020-02-01T00:00:00Z", "../.."]),
    bbox=st.none() | _BOXES,
    kinds=st.none() | st.sampled_from([{"dataset"}, {"dataset", "document"}, set()]),
    statuses=st.none() | st.sampled_from([{"active"}, {"active", "deleted"}]),
    order=_ORDERS | st.just(("-created_at",)),
    limit=st.integers(1, 4),
    count=st.booleans(),
)


def walk(backend: CatalogBackend, query: Query) -> Iterator[Page]:
    """Yield all pages of a query."""
    while True:
        page = backend.search(query)
        yield page
        if page.next is None:
            return
        query = query.at(page.next)


def sample(number: int, **fields: Any) -> CatalogRecord:
    """Return a plain record, created *number* seconds after the start of 2020."""
    return CatalogRecord(
        created_at=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=number), **({"title": f"t{number}"} | fields)
    )
