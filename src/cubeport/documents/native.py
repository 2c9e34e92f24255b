"""The service's own documents, for ``/datasets`` and the commands. Pure functions.

Field names never change. Boxes are cell edges in the data's own reference system; times are the first and last period. Links are
absolute, below ``public_url``, and always have a valid target.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cubeport.catalog.forms.canonical import Timestamp
from cubeport.cubes import calendars, periods
from cubeport.cubes.description import Axis, BoundingBox, CubeDescription, Temporal
from cubeport.cubes.periods import TimeLabel
from cubeport.documents import geozarr
from cubeport.documents.licences import UNSTATED, doubt
from cubeport.documents.texts import Provider, PublishedView

CRS84 = "OGC:CRS84"


class NativeDocument(BaseModel):
    """The base of the service's own documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Link(NativeDocument):
    """A link."""

    href: str
    rel: str
    title: str
    type: str | None = None


class Box(NativeDocument):
    """Cell edges in the data's reference system."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class Periods(NativeDocument):
    """First and last period, both inclusive."""

    start: str | None
    end: str | None


class SpaceTime(NativeDocument):
    """A box and a time range."""

    spatial: Box | None
    spatial_wgs84: BoundingBox | None
    temporal: Periods | None


class VariableSummary(NativeDocument):
    """One data variable."""

    name: str
    long_name: str | None
    standard_name: str | None
    units: str | None
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    coverage: str | None
    """The OGC API collection with this field; ``None`` if it is only in the Zarr store and in complete downloads."""
    valid_min: float | None = None
    valid_max: float | None = None
    """The least and the greatest value of all that are finite; ``None`` if there is none, or it was not measured."""


class PublicationState(NativeDocument):
    """Whether it is published, and since when."""

    status: Literal["published", "unpublished"]
    published_at: Timestamp | None


class DatasetSummary(NativeDocument):
    """A dataset in a list."""

    dataset_id: str
    source_dataset_id: str | None
    dataset_name: str
    short_name: str | None
    variable: str | None
    period_type: str
    units: str | None
    resolution: str | None
    source: str | None
    source_url: str | None
    extent: SpaceTime
    last_updated: Timestamp
    links: tuple[Link, ...]
    publication: PublicationState
    description: str
    variables: tuple[VariableSummary, ...]
    crs: str | None
    calendar: str | None
    license: str | None
    """``None`` if it is not stated."""
    latest_version: str | None
    head_version: str | None
    record_version: int


class Gap(NativeDocument):
    """Missing periods."""

    start: str
    end: str
    count: int


class TemporalCoverage(NativeDocument):
    """The periods with data."""

    start: str
    end: str
    count: int
    gaps: tuple[Gap, ...] = ()
    empty: tuple[str, ...] | None = None
    """The periods without any value: the first 1,000. ``None`` if not all values were read."""


class Grid(NativeDocument):
    """The horizontal grid: ``shape`` and ``step`` as (y, x); steps keep their sign."""

    shape: tuple[int, ...]
    step: tuple[float | None, ...]
    crs: str | None


class Coverage(NativeDocument):
    """The measured coverage of a version."""

    temporal: TemporalCoverage | None
    spatial: Box | None
    spatial_wgs84: BoundingBox | None
    grid: Grid | None
    calendar: str | None


class Version(NativeDocument):
    """One immutable state of a cube."""

    version_id: str
    seq: int
    parent_id: str | None
    kind: str
    created_at: Timestamp
    format: str
    copies: tuple[dict[str, Any], ...]
    coverage: dict[str, Any]
    request_scope: dict[str, Any]
    added: tuple[dict[str, Any], ...]
    replaced: tuple[dict[str, Any], ...]
    size_bytes: int
    digest: str
    ingestion_id: str
    template_digest: str | None
    tags: tuple[str, ...]
    state: Literal["latest", "head", "retained", "removed", "missing"]
    retained_until: Timestamp | None = None
    warnings: tuple[dict[str, str], ...] = ()
    """What was skipped, repaired, assumed or is unknown, as in the answer of the ingestion."""
    links: tuple[Link, ...]


class Sync(NativeDocument):
    """How the dataset follows its source."""

    kind: str
    execution: str
    schedule: str | None = None
    last_run: Timestamp | None = None
    next_run: Timestamp | None = None


class DatasetDetail(DatasetSummary):
    """A dataset with its details."""

    versions: tuple[Version, ...]
    """The newest 20 versions."""
    tags: dict[str, str]
    grid: Grid | None
    size_bytes: int
    providers: tuple[Provider, ...]
    keywords: tuple[str, ...]
    attribution: str | None
    citation: str | None
    doi: str | None
    license_url: str | None
    sync: Sync
    created_at: Timestamp
    warnings: tuple[dict[str, str], ...] = ()
    """Kind and message of what its texts leave open, such as a licence that programs do not know."""


class ExtentDocument(NativeDocument):
    """A named area."""

    extent_id: str
    name: str | None
    description: str | None
    bbox: BoundingBox
    geometry: dict[str, Any] | None


class ZoneSetSummary(NativeDocument):
    """One zone set, without its geometries."""

    zone_set_id: str
    title: str | None
    description: str | None
    license: str | None
    zones: int
    """How many zones it has."""
    bbox: tuple[float, float, float, float]
    digest: str
    links: tuple[Link, ...]


class TemplateDocument(NativeDocument):
    """A source that can be ingested, without its paths and parameters."""

    id: str
    title: str
    short_name: str | None
    description: str | None
    keywords: tuple[str, ...]
    variables: tuple[dict[str, Any], ...]
    units: str | None
    resolution: str | None
    period_type: str
    extents: dict[str, Any]
    sync: Sync
    render: tuple[dict[str, Any], ...]
    license: str | None
    source: str | None
    source_url: str | None
    source_kind: str
    datasets: tuple[str, ...]


class Listing[T](NativeDocument):
    """A page of a list. ``links`` contains ``next``, except on the last page."""

    kind: str
    items: tuple[T, ...]
    links: tuple[Link, ...]
    number_returned: int
    number_matched: int | None = None


class TemplateList(Listing[TemplateDocument]):
    """Templates, and for administrators the entries of ``config/datasets`` and ``extents`` that disabled themselves."""

    problems: tuple[str, ...] | None = None
    """``file:line:column: key: words``."""


def listing(
    kind: str,
    items: Sequence[BaseModel],
    links: Sequence[Link],
    *,
    matched: int | None = None,
    damaged: Sequence[str] = (),
) -> dict[str, Any]:
    """Return one page of a list, with ``number_matched`` if it was counted, and ``damaged`` if something could not be read."""
    page: dict[str, Any] = {
        "kind": kind,
        "items": [item.model_dump(mode="json") for item in items],
        "links": [link.model_dump(mode="json", exclude_none=True) for link in links],
        "number_returned": len(items),
    }
    if damaged:
        page["damaged"] = list(damaged)
    return page if matched is None else page | {"number_matched": matched}


def summary(shown: PublishedView, public_url: str) -> DatasetSummary:
    """Return the document of a dataset for lists."""
    return DatasetSummary(**_summary(shown, public_url))


def detail(shown: PublishedView, public_url: str, *, versions: Sequence[Version], sync: Sync | None = None) -> DatasetDetail:
    """Return a dataset with its newest *versions*."""
    texts, description = shown.texts, shown.description
    return DatasetDetail(
        **_summary(shown, public_url),
        versions=tuple(versions),
        tags=shown.tags,
        grid=grid(description),
        size_bytes=shown.version.size_bytes,
        providers=texts.providers,
        keywords=texts.keywords,
        attribution=texts.attribution,
        citation=texts.citation,
        doi=texts.doi,
        license_url=texts.license_url,
        sync=sync or Sync(kind="static", execution="append"),
        created_at=shown.created_at,
        warnings=tuple({"kind": "unknown-licence", "message": each} for each in [doubt(texts.license, texts.license_url)] if each),
    )


def _summary(shown: PublishedView, public_url: str) -> dict[str, Any]:
    texts, cube = shown.texts, shown.description
    of = {name: each.coverage_name for each in shown.coverages() for name in each.description.fields}
    fields = [cube.variable(name) for name in of]
    fields += [each for each in cube.variables if each.role == "data" and each.dimensions and each.name not in of]
    kind = period_type(texts.period_type, cube.temporal)
    return {
        "dataset_id": texts.dataset_id,
        "source_dataset_id": shown.source_dataset_id,
        "dataset_name": texts.title,
        "short_name": texts.short_name,
        "variable": fields[0].name if fields else None,
        "period_type": kind,
        "units": texts.units or (fields[0].units if fields else None),
        "resolution": texts.resolution or _resolution(cube),
        "source": texts.source,
        "source_url": texts.source_url,
        "extent": SpaceTime(
            spatial=_box(cube),
            spatial_wgs84=None if _is_crs84(cube) else cube.spatial.bbox,
            temporal=_periods(cube.temporal, kind),
        ),
        "last_updated": shown.updated_at,
        "links": links(shown, public_url),
        "publication": PublicationState(status="published" if shown.published else "unpublished", published_at=shown.published_at),
        "description": texts.description,
        "variables": tuple(
            VariableSummary(
                name=each.name,
                long_name=each.long_name,
                standard_name=each.standard_name,
                units=each.units,
                dimensions=each.dimensions,
                shape=each.shape,
                dtype=each.decoded_dtype,
                coverage=of.get(each.name) if shown.published else None,
                valid_min=each.valid_min,
                valid_max=each.valid_max,
            )
            for each in fields
        ),
        "crs": crs(cube),
        "calendar": cube.temporal.calendar if cube.temporal else None,
        "license": None if texts.license == UNSTATED else texts.license,
        "latest_version": shown.latest or (shown.version.version_id if shown.is_latest and shown.published else None),
        "head_version": shown.head,
        "record_version": shown.record_version,
    }


def links(shown: PublishedView, public_url: str) -> tuple[Link, ...]:
    """Return the links of a dataset, pinned if the request was pinned. An unpublished dataset has only a link to itself."""
    plain = shown.texts.dataset_id
    address = f"{plain}@{shown.version.version_id}" if shown.pinned else plain
    found = [
        Link(href=f"{public_url}/datasets/{address}", rel="self", title="This dataset", type="application/json"),
        Link(href=f"{public_url}/datasets/{plain}/versions", rel="versions", title="Its versions", type="application/json"),
    ]
    if shown.published:
        # ``application/vnd.zarr`` without parameters, because clients compare it exactly.
        found += [
            Link(href=f"{public_url}/zarr/{address}", rel="zarr", title="The cube as Zarr", type="application/vnd.zarr"),
            Link(href=f"{public_url}/stac/collections/{address}", rel="stac", title="STAC Collection", type="application/json"),
            Link(
                href=f"{public_url}/ogcapi/collections/{address}",
                rel="ogc-collection",
                title="OGC API collection",
                type="application/json",
            ),
            Link(href=f"{public_url}/dap/{address}", rel="opendap", title="OPeNDAP", type="text/html"),
            Link(href=f"{public_url}/zarr-v2/{address}", rel="zarr-v2", title="The cube as Zarr v2", type="application/json"),
            *(
                [Link(href=f"{public_url}/geozarr/{address}", rel="geozarr", title="The cube as GeoZarr", type="application/json")]
                if geozarr.attributes(shown.description) is not None
                else []
            ),
            Link(
                href=f"{public_url}/datasets/{address}/download",
                rel="download",
                title="The data as a NetCDF file",
                type="application/x-netcdf",
            ),
        ]
    return tuple(found)


def version(
    fields: Mapping[str, Any],
    *,
    dataset_id: str,
    public_url: str,
    state: Literal["latest", "head", "retained", "removed", "missing"],
    tags: Sequence[str] = (),
    published: bool = True,
    retained_until: datetime | None = None,
) -> Version:
    """Return the document of one version from its fields in the catalog (*fields* can contain more)."""
    address = f"{dataset_id}@{fields['version_id']}"
    found = [
        Link(
            href=f"{public_url}/datasets/{dataset_id}/versions/{fields['version_id']}",
            rel="self",
            title="This version",
            type="application/json",
        )
    ]
    if published and state != "removed":
        found += [
            Link(href=f"{public_url}/zarr/{address}", rel="zarr", title="This version as Zarr", type="application/vnd.zarr"),
            Link(
                href=f"{public_url}/stac/collections/{dataset_id}/items/{address}",
                rel="stac",
                title="STAC Item",
                type="application/geo+json",
            ),
            Link(
                href=f"{public_url}/zarr/{address}?f=manifest",
                rel="manifest",
                title="Every object with its sha256",
                type="application/json",
            ),
        ]
    taken = {name: fields[name] for name in _VERSION_FIELDS if name in fields}
    return Version(**taken, state=state, tags=tuple(sorted(tags)), retained_until=retained_until, links=tuple(found))


_VERSION_FIELDS = tuple(name for name in Version.model_fields if name not in ("tags", "state", "retained_until", "links"))


def coverage(cube: CubeDescription, kind: str | None = None) -> Coverage:
    """Return the coverage of a cube: periods of *kind* (by default found from the steps), cells and grid."""
    temporal = cube.temporal
    kind = period_type(kind, temporal)
    return Coverage(
        temporal=_measured(temporal, kind) if temporal else None,
        spatial=_box(cube),
        spatial_wgs84=None if _is_crs84(cube) else cube.spatial.bbox,
        grid=grid(cube),
        calendar=temporal.calendar if temporal else None,
    )


def _measured(temporal: Temporal, kind: str) -> TemporalCoverage:
    first, last = span(temporal, kind)
    return TemporalCoverage(start=first, end=last, count=temporal.count, gaps=gaps(temporal, kind), empty=empty(temporal, kind))


def empty(temporal: Temporal, kind: str) -> tuple[str, ...] | None:
    """Return the periods of *kind* at which no field has a value: the first 1,000. ``None`` if not all values were read."""
    if temporal.empty is None:
        return None
    return tuple(period(moment, kind, temporal.calendar) for moment in temporal.empty)


def gaps(temporal: Temporal, kind: str) -> tuple[Gap, ...]:
    """Return the periods of *kind* without a step, between the first and the last period with one: the first 1,000 gaps."""
    if kind == temporal.period_type:
        return tuple(Gap(start=first, end=last, count=count) for first, last, count in temporal.gaps)
    calendar = calendars.canonical(temporal.calendar)
    if calendar is None or kind in ("irregular", "climatology", "none"):
        return ()
    # If steps are missing, the period type cannot always be found from the labels, so it is given.
    numbers = [periods.of(label, kind, calendar) for label in _labels(temporal, kind, calendar)]
    return tuple(
        Gap(
            start=periods.format_period(first, kind, calendar),
            end=periods.format_period(last, kind, calendar),
            count=last - first + 1,
        )
        for first, last in itertools.islice(periods.gaps(numbers), _MOST_GAPS)
    )


_MOST_GAPS = 1_000


def _labels(temporal: Temporal, kind: str, calendar: calendars.CalendarName) -> Iterator[calendars.Stamp]:
    """Yield a moment in the period of *kind* of each step. Labels with an even step are counted, as they are not listed.

    Steps in months are counted in months, so that nothing is known of shorter periods.
    """
    if temporal.step is None:
        listed = [calendars.parse_stamp(label, calendar) for label in temporal.values or ()]
        yield from periods.moments(listed, kind, calendar, None, temporal.time_label)
        return
    ends = [calendars.parse_stamp(each, calendar) for each in (temporal.start, temporal.end)]
    first, last = periods.moments(ends, kind, calendar, None, temporal.time_label)
    steps = max(temporal.count - 1, 1)
    if temporal.step.endswith(("M", "Y")) and "T" not in temporal.step:
        months = [each.year * 12 + each.month - 1 for each in (first, last)]
        if kind in ("monthly", "yearly"):
            for number in range(temporal.count):
                year, month = divmod(months[0] + number * (months[1] - months[0]) // steps, 12)
                yield calendars.Stamp(year, month + 1, 1)
        return
    began, ended = (calendars.ordinal(each, calendar) for each in (first, last))
    yield from (calendars.stamp_of(began + (ended - began) * number // steps, calendar) for number in range(temporal.count))


def climatology(temporal: Temporal, kind: periods.ClimatologyKind) -> tuple[list[int], set[int]]:
    """Return the period of a climatology of each step, as indices of its labels, and those that a complete one has."""
    calendar = calendars.canonical(temporal.calendar) or "standard"
    stamps = list(_labels(temporal, "monthly" if kind != "daily" else "daily", calendar))
    return [periods.climatology_of(each, kind, calendar) for each in stamps], periods.expected_of(stamps, kind, calendar)


def grid(cube: CubeDescription) -> Grid | None:
    """Return the horizontal grid, or ``None`` if no axis has a horizontal position."""
    axes = [axis for axis in (_axis(cube, cube.spatial.y), _axis(cube, cube.spatial.x)) if axis is not None]
    if not axes:
        return None
    return Grid(shape=tuple(axis.size for axis in axes), step=tuple(axis.step for axis in axes), crs=crs(cube))


def crs(cube: CubeDescription) -> str | None:
    """Return the authority and code of the reference system, otherwise its name; ``None`` without a horizontal position."""
    if cube.spatial.family == "none":
        return None
    named = cube.spatial.system
    return CRS84 if named is None else (named.authority or named.name)


def _axis(cube: CubeDescription, name: str | None) -> Axis | None:
    return next((axis for axis in cube.axes if axis.name == name), None) if name else None


def _is_crs84(cube: CubeDescription) -> bool:
    return crs(cube) == CRS84


def _box(cube: CubeDescription) -> Box | None:
    if cube.spatial.family == "none":
        return None
    edges = cube.spatial.bbox if _is_crs84(cube) else (cube.spatial.native_bbox or cube.spatial.bbox)
    if edges is None:
        return None
    return Box(xmin=edges[0], ymin=edges[1], xmax=edges[2], ymax=edges[3])


def _resolution(cube: CubeDescription) -> str | None:
    x, y = _axis(cube, cube.spatial.x), _axis(cube, cube.spatial.y)
    if x is None or y is None or x.step is None or y.step is None:
        return None
    steps = abs(x.step), abs(y.step)
    unit = "°" if _is_crs84(cube) else f" {x.units}" if x.units else ""
    if unit in (" m", " metre", " metres", " meter", " meters") and min(steps) >= 1_000:
        steps, unit = (steps[0] / 1_000, steps[1] / 1_000), " km"
    across, along = (f"{each:.4g}" for each in steps)
    return f"{across}{unit}" if across == along else f"{across} × {along}{unit}"


# --- periods ---------------------------------------------------------------------------------------------------------


def period_type(named: str | None, temporal: Temporal | None) -> str:
    """Return the period type: the given one, otherwise the measured one, otherwise ``irregular``; ``none`` without time."""
    if named is not None:
        return named
    if temporal is None:
        return "none"
    return temporal.period_type or "irregular"


_SHOWN_LETTERS = {"daily": 10, "monthly": 7, "yearly": 4}
"""How much of a time names a period."""


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def written_period(named: str | None, temporal: Temporal | None) -> str | None:
    """Return the period type in which :func:`period_labels` writes times. ``None`` for labels at the end of their periods, which
    are written whole, because their date can be that of the next period.
    """
    return None if temporal is not None and temporal.time_label == "end" else period_type(named, temporal)


def period_labels(labels: Sequence[str], period: str | None) -> Sequence[str]:
    """Return times as a person reads them: a month as its month, a day without its hour, an hour without its seconds, and the steps
    of a climatology by their seasons or months, or as days without a year.

    Two steps never look the same, and all look alike.
    """
    if period == "climatology":
        return _without_years(labels)
    short = [label[: _SHOWN_LETTERS.get(period or "", len(label))] for label in labels]
    named = short if len(set(short)) == len(short) else labels
    for idle in ("T00:00:00Z", ":00Z"):
        if all(label.endswith(idle) for label in named):
            return [label.removesuffix(idle) for label in named]
    return named


def _without_years(labels: Sequence[str]) -> Sequence[str]:
    """Return the steps of a climatology by their seasons or months, or as days: the year of a label is only one of its years."""
    months = [int(label[5:7]) for label in labels]
    seasons = [periods.CLIMATOLOGIES["seasonal"][month % 12 // 3] for month in months] if len(months) == 4 else []
    ways = (seasons, [_MONTHS[month - 1] for month in months], [label[5:10] for label in labels])
    return next((names for names in ways if len(set(names)) == len(labels)), labels)


def period(label: str, kind: str, calendar: str = "standard", time_label: TimeLabel = "start") -> str:
    """Return the period of *kind* with the time *label* (RFC 3339, in the fields of *calendar*), as *time_label* says.

    The labels of a climatology are not moments, so they are returned unchanged.
    """
    known = calendars.canonical(calendar)
    if known is None or kind in ("climatology", "none"):
        return label
    stamps = [calendars.parse_stamp(label, known)]
    (moment,) = periods.moments(stamps, kind, known, None, time_label)
    return periods.format_period(periods.of(moment, kind, known), kind, known)


def span(temporal: Temporal, kind: str) -> tuple[str, str]:
    """Return the first and last period of *kind*: by the bounds if it is the data's own period type, otherwise by the labels."""
    if kind == temporal.period_type and temporal.first_period is not None and temporal.last_period is not None:
        return temporal.first_period, temporal.last_period
    first, last = (period(label, kind, temporal.calendar, temporal.time_label) for label in (temporal.start, temporal.end))
    return first, last


def _periods(temporal: Temporal | None, kind: str) -> Periods | None:
    if temporal is None:
        return None
    if temporal.years is not None:
        first, _, last = temporal.years.partition(" to ")
        return Periods(start=first, end=last or first)
    first, last = span(temporal, kind)
    return Periods(start=first, end=last)
