"""Dataset templates and extents: what could be ingested, and named areas to ingest it for.

Values only; ``adapters/configuration.py`` reads them from ``config/datasets/*.yaml`` and ``extents/*.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.forms.later import Later
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.documents.texts import Provider, WebAddress
from cubeport.service.cron import Cron

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""Ids of datasets, templates and extents."""

type PublicId = Annotated[str, Field(pattern=ID_PATTERN)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class VariableChoice(_Part):
    """One variable of a template, by its name in the source, with what to show of it."""

    name: str
    long_name: str | None = None
    standard_name: str | None = None
    units: str | None = None


class IngestionRules(_Part):
    """How a template's periods are fetched."""

    params: Annotated[dict[str, Any], Later({})] = {}
    clip: Literal["touch", "centre"] = "touch"
    allow_gaps: bool = False


class LayoutRules(_Part):
    """How a template's versions are chunked; by default about 1 MiB a chunk, balanced between map and series."""

    chunks: dict[str, Annotated[int, Field(gt=0)]] | None = None


class Availability(_Part):
    """When a source has its newest periods. Each rule names a last period; the earliest wins."""

    lag_hours: Annotated[int, Field(ge=0)] = 0
    lag_days: Annotated[int, Field(ge=0)] = 0
    """The period that holds the moment so long ago is the last one; hours and days add up."""
    complete_month_after_day: Annotated[int | None, Field(ge=0, le=31)] = None
    """After that day of a month the month before is complete, until then the one before that."""
    latest_year: Annotated[int | None, Field(ge=1, le=9999)] = None
    latest_year_offset: Annotated[int | None, Field(le=0)] = None
    """The last year, counted from this one: -1 is last year."""
    allow_future: bool = False
    """Whether periods behind the present one are asked for, as of a forecast."""


class Release(_Part):
    """Which release of the source the template means."""

    value: str


class SyncRules(_Part):
    """How a template follows its source."""

    kind: Literal["temporal", "release", "static"] = "static"
    """``temporal``: new periods come at the end. ``release``: the whole is published again. ``static``: it does not change."""
    execution: Literal["append", "rematerialize"] = "append"
    """Of ``temporal``: add the new periods, or rebuild the dataset."""
    availability: Availability = Availability()
    version: Release | None = None
    """Of ``release``: a dataset of another release is rebuilt."""
    schedule: str | None = None
    """When to sync: five cron fields in ``schedule.timezone``."""

    @model_validator(mode="after")
    def _acts(self) -> SyncRules:
        if self.kind == "static" and (self.schedule or self.version or self.availability != Availability()):
            raise ValueError("a static source is not synced: leave schedule, availability and version out, or choose another kind")
        if self.version is not None and self.kind != "release":
            raise ValueError("version needs kind release")
        if self.execution == "rematerialize" and self.kind != "temporal":
            raise ValueError("execution needs kind temporal")
        if self.schedule is not None:
            Cron.parse(self.schedule)
        return self


class SpatialScope(_Part):
    """Where the source has data."""

    bbox: tuple[float, float, float, float]


class TemporalScope(_Part):
    """When the source has data."""

    begin: str | None = None
    end: str | None = None
    resolution: str | None = None


class SourceScope(_Part):
    """What the source has."""

    spatial: SpatialScope | None = None
    temporal: TemporalScope | None = None


class SourceBlock(BaseModel):
    """Where a template's data come from: ``files``, ``zarr`` or ``plugin``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["files", "zarr", "plugin"]
    name: str | None = None
    homepage: WebAddress | None = None
    paths: tuple[str, ...] = ()
    path: str | None = None
    group: str | None = None
    filter_by_keys: dict[str, str | int] = {}
    """Of GRIB: the keys of the messages to take, ``typeOfLevel: surface``."""
    params: dict[str, Any] = {}
    combine: Annotated[dict[str, str], Later({})] = {}

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, block: Any) -> Any:
        paths = block.get("paths") if isinstance(block, Mapping) else None
        if isinstance(paths, str | list):
            return {**block, "paths": (paths,) if isinstance(paths, str) else tuple(paths)}
        return block

    @model_validator(mode="after")
    def _complete(self) -> SourceBlock:
        field, value = {"files": ("paths", self.paths), "zarr": ("path", self.path), "plugin": ("name", self.name)}[self.kind]
        if not value:
            raise ValueError(f"a source of kind {self.kind} needs {field}")
        for other, kind in (("paths", "files"), ("path", "zarr"), ("params", "plugin")):
            if getattr(self, other) and self.kind != kind:
                raise ValueError(f"{other} is for a source of kind {kind}, and this one is of kind {self.kind}")
        return self


def source_kinds() -> tuple[str, ...]:
    """Return the kinds of sources that a template can have."""
    return tuple(str(each) for each in get_args(SourceBlock.model_fields["kind"].annotation))


_FREE = ("render", "display", "ingestion", "source")
"""Fields that hold values of any type, which stay as they were written."""


def _without_lists(value: Any, *, within: bool) -> Any:
    """Return *value* with tuples for lists: after a validator of ours, pydantic's strict mode takes no list for a tuple."""
    if isinstance(value, list | tuple):
        return tuple(_without_lists(each, within=within) if within else each for each in value)
    if within and isinstance(value, Mapping):
        return {key: _without_lists(each, within=True) for key, each in value.items()}
    return value


class TemplateFields(_Part):
    """The fields that a request's ``template`` may carry for a direct source; what is absent is taken from the data."""

    title: Annotated[str | None, Field(validation_alias=AliasChoices("title", "name"))] = None
    short_name: str | None = None
    description: str | None = None
    keywords: tuple[str, ...] = ()
    variables: tuple[VariableChoice, ...] = ()
    units: str | None = None
    resolution: str | None = None
    period_type: str | None = None
    calendar: str | None = None
    time_label: Annotated[Literal["start", "middle", "end"], Later("start")] = "start"
    extents: SourceScope = SourceScope()
    ingestion: IngestionRules = IngestionRules()
    normalise: tuple[NormaliseStep, ...] = ()
    """Steps that change the form of each source, in this order; none leaves data as they are stored."""
    transforms: tuple[TransformStep, ...] = ()
    """Steps that change values, in this order."""
    layout: LayoutRules = LayoutRules()
    publish: bool = True
    """Whether an ingestion that does not say it itself shows the new version at once."""
    render: Annotated[tuple[dict[str, Any], ...], Field(validation_alias=AliasChoices("render", "display"))] = ()
    license: str | None = None
    """An SPDX identifier, or ``other``; absent = what the data state in their attribute ``license``."""
    license_url: WebAddress | None = None
    providers: tuple[Provider, ...] = ()
    attribution: str | None = None
    citation: str | None = None
    doi: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, document: Any) -> Any:
        if not isinstance(document, Mapping):
            return document
        fields = dict(document)
        if "variable" in fields and "variables" not in fields:
            fields["variables"] = [fields.pop("variable")]
        if isinstance(fields.get("variables"), (list, tuple)):
            fields["variables"] = [{"name": v} if isinstance(v, str) else v for v in fields["variables"]]
        for name in ("render", "display"):
            if isinstance(fields.get(name), Mapping):
                fields[name] = [fields[name]]
        return {name: _without_lists(value, within=name not in _FREE) for name, value in fields.items()}

    def steps(self) -> dict[str, Any]:
        """Return ``normalise`` and ``transforms`` as JSON values, without those that have no step."""
        found = {"normalise": plain(self.normalise), "transforms": plain(self.transforms)}
        return {name: steps for name, steps in found.items() if steps}


class DatasetTemplate(TemplateFields):
    """A source that could be ingested: one entry of ``config/datasets/*.yaml``."""

    id: PublicId
    title: Annotated[str, Field(validation_alias=AliasChoices("title", "name"))]
    period_type: str
    source: SourceBlock
    sync: SyncRules = SyncRules()

    @model_validator(mode="after")
    def _syncs_what_has_periods(self) -> DatasetTemplate:
        if self.sync.kind == "temporal" and self.period_type in ("climatology", "irregular", "none"):
            raise ValueError(f"sync.kind temporal needs periods that follow one another, and {self.period_type} has none")
        return self

    def digest(self) -> str:
        """Return the sha256 of what changes values; texts, licence and render are not in it."""
        parts = self.model_dump(mode="json", include={"variables", "period_type", "source", "ingestion", "layout"}) | self.steps()
        if not self.source.filter_by_keys:
            del parts["source"]["filter_by_keys"]
        return hashlib.sha256(dumps(parts).encode()).hexdigest()


class Extent(_Part):
    """A named area: one file of ``extents/``."""

    extent_id: PublicId
    bbox: tuple[float, float, float, float]
    """West, south, east, north; CRS84 degrees; west > east crosses the antimeridian."""
    name: str | None = None
    description: str | None = None
    geometry: dict[str, Any] | None = None
    country_code: Annotated[str | None, Field(pattern="^[A-Z]{3}$"), Later()] = None
    """Given to plugins, never shown."""

    @model_validator(mode="after")
    def _on_earth(self) -> Extent:
        west, south, east, north = self.bbox
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
            raise ValueError("bbox must be west, south, east, north in degrees with south < north")
        return self

    def digest(self) -> str:
        """Return the sha256 of the area."""
        return hashlib.sha256(dumps({"bbox": list(self.bbox)}).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Broken:
    """A configuration entry that disabled itself: which, and every problem as ``file:line:column: key: words``."""

    name: str
    problems: tuple[str, ...]


class Configuration(Protocol):
    """The instance's templates and extents, read again when their folders change."""

    def look_again(self) -> None:
        """Read at once what changed, however short ago it was last looked at."""

    def templates(self) -> Mapping[str, DatasetTemplate]: ...

    def extents(self) -> Mapping[str, Extent]: ...

    def broken(self) -> tuple[Broken, ...]: ...
