"""Dataset templates and extents: what could be ingested, and named areas to ingest it for.

Values only; ``adapters/configuration.py`` reads them from ``config/datasets/*.yaml`` and ``extents/*.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.forms.later import Later
from cubeport.cubes.overviews import MOST
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.cubes.update import OnOverlap
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
    on_overlap: OnOverlap = "error"
    """Steps that several files have: refuse them, or take those of the file that begins first (``skip``) or last (``replace``)."""
    max_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Periods that are fetched at once, where the source allows more than one."""

    def of_values(self) -> dict[str, Any]:
        """Return what changes values, as JSON has it."""
        later = {} if self.on_overlap == "error" else {"on_overlap": self.on_overlap}
        return self.model_dump(mode="json", exclude={"max_concurrency", "on_overlap"}) | later


class Pyramid(_Part):
    """The overviews of a template's versions."""

    levels: Literal["off", "auto"] | Annotated[int, Field(ge=1, le=MOST)] = "auto"
    """How many; ``auto``: of slices of more than a million cells, until both sides have 512 at most."""
    method: Literal["mean", "nearest", "max"] | None = None
    """How four cells become one; by default by the kind of each field."""


class LayoutRules(_Part):
    """How a template's versions are chunked; by default about 1 MiB a chunk, balanced between map and series."""

    chunks: dict[str, Annotated[int, Field(gt=0)]] | None = None
    pyramid: Pyramid = Pyramid()
    """Changes no value of the cube, so a change of it alone makes no new version."""


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
    function: str | None = None
    """A rule of a plugin, by its name: it is given the template and the period asked for, and returns the last one there is."""
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
    revisit_periods: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Of ``temporal``: how many of the last periods are looked at again: what the source has changed of them is taken anew."""
    schedule: str | None = None
    """When to sync: five cron fields in ``schedule.timezone``."""

    @model_validator(mode="after")
    def _acts(self) -> SyncRules:
        if self.revisit_periods and (self.kind != "temporal" or self.execution != "append"):
            raise ValueError("revisit_periods needs kind temporal with execution append")
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


_FIRST_FIELDS = ("kind", "name", "homepage", "paths", "path", "group", "params", "combine")
"""What a source had from the first release on."""

type SourceKind = Literal["files", "url", "store", "zarr", "stac", "upload", "plugin", "derived"]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "files": ("paths",),
    "url": ("template",),
    "store": ("profile", "key"),
    "zarr": (),
    "stac": ("url",),
    "upload": ("upload",),
    "plugin": ("name",),
    "derived": ("recipe", "inputs"),
}
_TAKEN: Mapping[str, tuple[str, ...]] = {
    "files": ("paths",),
    "url": ("template", "probe", "params", "checksum"),
    "store": ("profile", "key", "params"),
    "zarr": ("path", "url", "profile", "key"),
    "stac": ("url", "asset", "datetime", "filter"),
    "upload": ("upload",),
    "plugin": ("params",),
    "derived": ("recipe", "inputs", "params"),
}
"""Fields by kind of source; name, homepage, group and filter_by_keys are for all."""


class SourceBlock(BaseModel):
    """Where data come from: ``files``, ``url``, ``store``, ``zarr``, ``stac``, ``upload``, ``plugin`` or ``derived``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SourceKind
    name: str | None = None
    homepage: WebAddress | None = None
    paths: tuple[str, ...] = ()
    path: str | None = None
    template: Annotated[str | None, Field(max_length=8_192)] = None
    """Of ``url``: the address, with dates such as ``{YYYY}{MM}{DD}`` and names of ``params`` in it."""
    probe: Literal["head", "get", "none"] = "head"
    """Of ``url``: how the source is asked which periods there are."""
    url: Annotated[str | None, Field(max_length=8_192)] = None
    """Of ``zarr`` and ``stac``: an address."""
    profile: str | None = None
    """Of ``store`` and ``zarr``: a profile of config/profiles.yaml with ``use: [source]``."""
    key: Annotated[str | None, Field(max_length=1_024)] = None
    """Of ``store`` and ``zarr``: a path below the root of the profile; of ``store`` with dates in it."""
    asset: str | None = None
    """Of ``stac``: the key of the asset to take; the only one of its media type ``data`` role if not named."""
    datetime: str | None = None
    """Of ``stac``: an instant or ``start/end``, RFC 3339; ``..`` is open."""
    filter: dict[str, str | int | float | bool] = {}
    """Of ``stac``: properties that items must have."""
    upload: Annotated[str | None, Field(pattern="^[0-9a-f]{32}$")] = None
    """Of ``upload``: what ``POST /uploads`` answered."""
    group: str | None = None
    filter_by_keys: dict[str, str | int] = {}
    """Of GRIB: the keys of the messages to take, ``typeOfLevel: surface``."""
    params: dict[str, Any] = {}
    """Of ``plugin`` and ``derived``: what it takes. Of ``url`` and ``store``: values of the placeholders in small letters."""
    checksum: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    """Of ``url``: the sha256 of what the file must be; another one is refused before anything is made of it."""
    recipe: Annotated[str | None, Field(max_length=128)] = None
    """Of ``derived``: the name of the recipe."""
    inputs: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    """Of ``derived``: the datasets that it is made of, ``id`` or ``id@ref``, in the order of the recipe."""
    combine: Annotated[dict[str, str], Later({})] = {}

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, block: Any) -> Any:
        if isinstance(block, Mapping) and isinstance(block.get("inputs"), list):
            block = {**block, "inputs": tuple(block["inputs"])}
        paths = block.get("paths") if isinstance(block, Mapping) else None
        if isinstance(paths, str | list):
            return {**block, "paths": (paths,) if isinstance(paths, str) else tuple(paths)}
        return block

    @model_validator(mode="after")
    def _complete(self) -> SourceBlock:
        for field in _NEEDED[self.kind]:
            if not getattr(self, field):
                raise ValueError(f"a source of kind {self.kind} needs {field}")
        for field in dict.fromkeys(each for taken in _TAKEN.values() for each in taken):
            if field not in _TAKEN[self.kind] and getattr(self, field) != type(self).model_fields[field].default:
                kinds = " and ".join(kind for kind, taken in _TAKEN.items() if field in taken)
                raise ValueError(f"{field} is for a source of kind {kinds}, and this one is of kind {self.kind}")
        if self.kind == "zarr":
            ways = [bool(self.path), bool(self.url), bool(self.profile or self.key)]
            if sum(ways) != 1 or bool(self.profile) != bool(self.key):
                raise ValueError("a source of kind zarr needs path, or url, or profile and key")
        return self

    def told(self) -> dict[str, Any]:
        """Return what it says as JSON values, without what is left at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)


def source_kinds() -> tuple[str, ...]:
    """Return the kinds of sources that a template can have."""
    return tuple(_TAKEN)


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
        kept: dict[str, Any] = {"variables": True, "period_type": True, "source": True, "layout": {"chunks"}}
        parts = self.model_dump(mode="json", include=kept) | self.steps()
        # Fields that came later count only where they say something: a dataset that is there must not become another by them.
        said = self.source.told()
        parts["source"] = {name: value for name, value in parts["source"].items() if name in _FIRST_FIELDS or name in said}
        parts["ingestion"] = self.ingestion.of_values()
        return hashlib.sha256(dumps(parts).encode()).hexdigest()


class Extent(_Part):
    """A named area: one file of ``extents/``."""

    extent_id: PublicId
    bbox: tuple[float, float, float, float]
    """West, south, east, north; CRS84 degrees; west > east crosses the antimeridian."""
    name: str | None = None
    description: str | None = None
    geometry: dict[str, Any] | None = None
    country_code: Annotated[str | None, Field(pattern="^[A-Z]{3}$")] = None
    """ISO 3166-1 alpha-3; given to plugins, never shown."""

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
