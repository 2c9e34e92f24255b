"""Dataset templates and extents: sources that can be ingested, and named areas.

This module contains only values; ``adapters/configuration.py`` reads them from ``config/datasets/*.yaml`` and ``extents/*.yaml``.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from cubeport.catalog.forms.canonical import TRUSTED, dumps
from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical
from cubeport.cubes.overviews import MOST
from cubeport.cubes.periods import ClimatologyKind, TimeLabel
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.cubes.update import OnOverlap
from cubeport.cubes.write_request import Storage, Verify
from cubeport.documents.texts import Provider, WebAddress
from cubeport.errors import CubeportError
from cubeport.service.cron import Cron

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""The pattern of ids of datasets, templates and extents."""


def _known_period_type(name: str) -> str:
    if name not in periods.PERIOD_TYPES:
        near = difflib.get_close_matches(name, periods.PERIOD_TYPES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name!r:.50} is not one of {', '.join(periods.PERIOD_TYPES)}{hint}")
    return name


def _on_earth(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise ValueError("bbox must be west, south, east, north in degrees with south < north")
    return bbox


type PeriodType = Annotated[str, AfterValidator(_known_period_type)]
type Year = Annotated[int, Field(ge=1, le=9998)]

type PublicId = Annotated[str, Field(pattern=ID_PATTERN)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class VariableChoice(_Part):
    """One variable of a template, by its name in the source, with the texts to show."""

    name: str
    long_name: str | None = None
    standard_name: str | None = None
    units: str | None = None


class IngestionRules(_Part):
    """How the periods of a template are fetched."""

    clip: Literal["touch", "centre"] = "touch"
    allow_gaps: bool = False
    on_empty: Literal["warn", "refuse"] = "warn"
    """What to do with new periods without any value: publish them with a warning that lists them, or refuse them."""
    on_overlap: OnOverlap = "error"
    """What to do with steps in several files: refuse them, or use the file that begins first (``skip``) or last (``replace``)."""
    max_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """How many periods to fetch at the same time, if the source allows it."""
    timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    """The longest time of a try to fetch one file, object, chunk or period of a plugin, in seconds."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often such a try is made again after an error that can pass, before the job's own attempts."""
    storage: Storage = "copy"
    """Whether to copy the chunks, to read them from the source in place (``virtual``), or each variable as it allows (``auto``)."""
    verify: Verify = "full"
    """Which chunks of a source to decode before the version is published: all, or the first, the last and 1 %."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_params(cls, document: Any) -> Any:
        """Remove ``params`` without any: jobs that an earlier cubeport stored have it. Others are of the source."""
        if isinstance(document, Mapping) and document.get("params") == {}:
            return {name: value for name, value in document.items() if name != "params"}
        return document

    @model_validator(mode="after")
    def _reads_what_it_refuses(self) -> IngestionRules:
        if self.on_empty == "refuse" and self.verify == "sample":
            raise ValueError("on_empty refuse needs verify full: a sample does not tell which periods have no value")
        return self

    def of_values(self) -> dict[str, Any]:
        """Return the fields that change values, as JSON values."""
        later = {} if self.on_overlap == "error" else {"on_overlap": self.on_overlap}
        return (
            {"params": {}}  # for the digest of existing datasets; DatasetTemplate gives them to the source
            | self.model_dump(
                mode="json", exclude={"max_concurrency", "timeout_s", "retries", "on_empty", "on_overlap", "storage", "verify"}
            )
            | later
        )


class Pyramid(_Part):
    """The overviews of a template's versions."""

    levels: Literal["off", "auto"] | Annotated[int, Field(ge=1, le=MOST)] = "auto"
    """How many; ``auto``: of slices of more than a million cells, until both sides have 512 at most."""
    method: Literal["mean", "nearest", "max"] | None = None
    """How four cells become one; by default by the kind of each field."""


class LayoutRules(_Part):
    """How the versions of a template are chunked; by default about 1 MiB a chunk, balanced between maps and series."""

    chunks: dict[str, Annotated[int, Field(gt=0)]] | None = None
    pyramid: Pyramid = Pyramid()
    """Changes no value of the cube, so a change of it alone makes no new version."""


class Availability(_Part):
    """When the newest periods of a source are available. Each rule gives a last period; the earliest one applies."""

    lag_hours: Annotated[int, Field(ge=0, le=876_600)] = 0
    lag_days: Annotated[int, Field(ge=0, le=36_525)] = 0
    """The last period is the one that contains the moment this long ago, a century at most. Hours and days are added."""
    complete_month_after_day: Annotated[int | None, Field(ge=0, le=31)] = None
    """After this day of a month, the previous month is complete; until then, the month before it."""
    latest_year: Annotated[int | None, Field(ge=1, le=9999)] = None
    latest_year_offset: Annotated[int | None, Field(le=0, ge=-1000)] = None
    """The last year relative to the current one: -1 is the previous year."""
    function: str | None = None
    """A rule of a plugin, by its name: it is given the template and the period asked for, and returns the last one there is."""
    allow_future: bool = False
    """Whether to request periods after the current one, as for a forecast."""


class Release(_Part):
    """The release of the source to which the template refers."""

    value: str


class SyncRules(_Part):
    """How a template follows its source."""

    kind: Literal["temporal", "release", "static"] = "static"
    """``temporal``: new periods are added at the end. ``release``: the whole source is published again. ``static``: it does not
    change."""
    execution: Literal["append", "rematerialize"] = "append"
    """For ``temporal``: whether to add the new periods or rebuild the dataset."""
    availability: Availability = Availability()
    version: Release | None = None
    """For ``release``: the current release. A dataset of another release is rebuilt."""
    revisit_periods: Annotated[int, Field(ge=0, le=1_000)] = 0
    """For ``temporal``: how many of the last periods to check again. Those that the source has changed are fetched again."""
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


type Box = Annotated[tuple[float, float, float, float], AfterValidator(_on_earth)]
"""West, south, east, north; CRS84 degrees; west > east crosses the antimeridian."""


class SpatialScope(_Part):
    """The area of the source's data. An extent outside it is refused before anything is fetched."""

    bbox: Box


class TemporalScope(_Part):
    """The time range of the source's data, inclusive. Periods outside it are refused before anything is fetched."""

    begin: str | None = None
    end: str | None = None
    resolution: str | None = None
    """A text for readers, such as ``P1M``."""


class SourceScope(_Part):
    """The area and time range of the source's data."""

    spatial: SpatialScope | None = None
    temporal: TemporalScope | None = None


_FIRST_FIELDS = ("kind", "name", "homepage", "paths", "path", "group", "params", "combine")
"""The fields of a source since the first release."""

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
    "files": ("paths", "combine"),
    "url": ("template", "probe", "params", "checksum"),
    "store": ("profile", "key", "params"),
    "zarr": ("path", "url", "profile", "key"),
    "stac": ("url", "asset", "datetime", "filter"),
    "upload": ("upload",),
    "plugin": ("params",),
    "derived": ("recipe", "inputs", "params"),
}
"""The fields of each kind of source. All kinds have name, homepage, group and filter_by_keys."""


class SourceBlock(BaseModel):
    """A source block of kind ``files``, ``url``, ``store``, ``zarr``, ``stac``, ``upload``, ``plugin`` or ``derived``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SourceKind
    name: str | None = None
    homepage: WebAddress | None = None
    paths: tuple[str, ...] = ()
    path: str | None = None
    template: Annotated[str | None, Field(max_length=8_192)] = None
    """For ``url``: the URL, which can contain dates such as ``{YYYY}{MM}{DD}`` and names of ``params``."""
    probe: Literal["head", "get", "none"] = "head"
    """For ``url``: how to find out which periods exist."""
    url: Annotated[str | None, Field(max_length=8_192)] = None
    """For ``zarr`` and ``stac``: a URL."""
    profile: str | None = None
    """For ``store`` and ``zarr``: a profile in config/profiles.yaml with ``use: [source]``."""
    key: Annotated[str | None, Field(max_length=1_024)] = None
    """For ``store`` and ``zarr``: a path below the root of the profile. For ``store`` it can contain dates."""
    asset: str | None = None
    """For ``stac``: the key of the asset; by default the only one with the role ``data``, or the only one."""
    datetime: str | None = None
    """For ``stac``: an instant or ``start/end``, RFC 3339; ``..`` is an open end."""
    filter: dict[str, str | int | float | bool] = {}
    """For ``stac``: properties that items must have."""
    upload: tuple[Annotated[str, Field(pattern="^[0-9a-f]{32}$")], ...] = ()
    """For ``upload``: the id in the answer of ``POST /uploads``, or several ids: the files become one dataset."""
    group: str | None = None
    filter_by_keys: dict[str, str | int] = {}
    """For GRIB: the keys of the messages to select, such as ``typeOfLevel: surface``."""
    params: dict[str, Any] = {}
    """For ``plugin`` and ``derived``: the parameters. For ``url`` and ``store``: the values of lower-case placeholders."""
    checksum: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    """For ``url``: the expected sha256 of the file. Any other file is refused before it is read."""
    recipe: Annotated[str | None, Field(max_length=128)] = None
    """For ``derived``: the name of the recipe."""
    inputs: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    """For ``derived``: the input datasets, ``id`` or ``id@ref``, in the order of the recipe."""
    combine: dict[str, Annotated[str, Field(min_length=1, max_length=200)]] = {}
    """For ``files``: ``dim``, the dimension along which several files are joined, by default that of time."""

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, block: Any) -> Any:
        if not isinstance(block, Mapping):
            return block
        lists = {name: block[name] for name in ("inputs", "paths", "upload") if isinstance(block.get(name), str | list)}
        return {**block, **{name: (each,) if isinstance(each, str) else tuple(each) for name, each in lists.items()}}

    @model_validator(mode="after")
    def _complete(self) -> SourceBlock:
        for field in _NEEDED[self.kind]:
            if not getattr(self, field):
                raise ValueError(f"a source of kind {self.kind} needs {field}")
        for field in dict.fromkeys(each for taken in _TAKEN.values() for each in taken):
            if field not in _TAKEN[self.kind] and getattr(self, field) != type(self).model_fields[field].default:
                kinds = " and ".join(kind for kind, taken in _TAKEN.items() if field in taken)
                raise ValueError(f"{field} is for a source of kind {kinds}, and this one is of kind {self.kind}")
        if "order" in self.combine:
            raise ValueError("combine.order is not in this version: files are joined in the order of their labels, so leave it out")
        if unknown := self.combine.keys() - {"dim"}:
            raise ValueError(f"combine has no {', '.join(map(repr, sorted(unknown)))!s:.80}; it has dim")
        if self.kind == "zarr":
            ways = [bool(self.path), bool(self.url), bool(self.profile or self.key)]
            if sum(ways) != 1 or bool(self.profile) != bool(self.key):
                raise ValueError("a source of kind zarr needs path, or url, or profile and key")
        return self

    def told(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def source_kinds() -> tuple[str, ...]:
    """Return the kinds of sources."""
    return tuple(_TAKEN)


_FREE = ("render", "display", "ingestion", "source")
"""The fields with values of any type, which stay unchanged."""


def _without_lists(value: Any, *, within: bool) -> Any:
    """Return *value* with lists as tuples, because pydantic's strict mode accepts no lists for tuples after a validator."""
    if isinstance(value, list | tuple):
        return tuple(_without_lists(each, within=within) if within else each for each in value)
    if within and isinstance(value, Mapping):
        return {key: _without_lists(each, within=True) for key, each in value.items()}
    return value


class TemplateFields(_Part):
    """The fields of ``template`` in a request for a direct source. Missing fields come from the data."""

    title: Annotated[str | None, Field(validation_alias=AliasChoices("title", "name"))] = None
    short_name: str | None = None
    description: str | None = None
    keywords: tuple[str, ...] = ()
    variables: tuple[VariableChoice, ...] = ()
    units: str | None = None
    resolution: str | None = None
    period_type: PeriodType | None = None
    climatology: ClimatologyKind | None = None
    """The periods of which a climatology has one step each, for the ``period_type`` of that name."""
    climatology_period: tuple[Year, Year] | None = None
    """The first and the last year of which each step of a climatology is a statistic: its temporal extent, where the bounds of
    CF 7.4 do not tell it."""
    calendar: str | None = None
    time_label: TimeLabel | None = None
    """Which moment of its period a time label of the source is, where bounds do not tell; by default ``start``, or as the dataset
    to update has it. A label at the ``end`` belongs to the period that ends there."""
    extents: SourceScope = SourceScope()
    ingestion: IngestionRules = IngestionRules()
    normalise: tuple[NormaliseStep, ...] = ()
    """Steps that change the form of each source, in order. Without steps, data keep their stored form."""
    transforms: tuple[TransformStep, ...] = ()
    """Steps that change values, in this order."""
    layout: LayoutRules = LayoutRules()
    copies: tuple[Literal["netcdf"], ...] = ()
    """``[netcdf]``: each version also has a NetCDF-4 copy, which a download of all of it sends as it lies."""
    publish: bool = True
    """Whether to publish a new version immediately, if the request does not say."""
    render: Annotated[tuple[dict[str, Any], ...], Field(validation_alias=AliasChoices("render", "display"))] = ()
    license: str | None = None
    """An SPDX identifier, or ``other``. By default, the attribute ``license`` of the data."""
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

    @model_validator(mode="after")
    def _labels_periods(self, info: ValidationInfo) -> TemplateFields:
        without = self.period_type in (None, "irregular", "climatology", "none")
        if self.time_label in ("middle", "end") and without and info.context is not TRUSTED:
            raise ValueError(f"time_label {self.time_label} needs a period_type such as daily: a label is in a period of that type")
        return self

    @model_validator(mode="after")
    def _says_of_what(self, info: ValidationInfo) -> TemplateFields:
        if self.climatology_period is not None and self.climatology_period[0] > self.climatology_period[1]:
            raise ValueError("climatology_period ends before it begins")
        if self.climatology_period is not None and self.period_type != "climatology" and info.context is not TRUSTED:
            raise ValueError("climatology_period goes with period_type: climatology")
        if (self.period_type == "climatology") == (self.climatology is not None) or info.context is TRUSTED:
            return self
        kinds = ", ".join(periods.CLIMATOLOGIES)
        if self.climatology is None:
            raise ValueError(f"period_type climatology needs climatology: one of {kinds}, in a template (--template FILE)")
        raise ValueError("climatology goes with period_type: climatology")

    @model_validator(mode="after")
    def _extends_over_periods(self) -> TemplateFields:
        said, kind = self.extents.temporal, self.period_type
        if said is None or kind in (None, "climatology", "none"):
            return self
        known = canonical(self.calendar or "") or "standard"
        try:
            begin = [] if said.begin is None else [periods.parse_holding(said.begin, str(kind), known)]
            ends = begin if said.end is None else [*begin, periods.parse_holding(said.end, str(kind), known, side="end")]
        except CubeportError as exc:  # those of a field are ValueErrors
            raise ValueError(f"extents.temporal: {exc.message}") from exc
        if ends != sorted(ends):
            raise ValueError(f"extents.temporal: the end {said.end} is before the begin {said.begin}")
        return self

    def steps(self) -> dict[str, Any]:
        """Return ``normalise`` and ``transforms`` as JSON values, if they have any steps."""
        found = {"normalise": plain(self.normalise), "transforms": plain(self.transforms)}
        return {name: steps for name, steps in found.items() if steps}


class DatasetTemplate(TemplateFields):
    """A source that can be ingested: one entry of ``config/datasets/*.yaml``."""

    id: PublicId
    title: Annotated[str, Field(validation_alias=AliasChoices("title", "name"))]
    period_type: PeriodType
    source: SourceBlock
    sync: SyncRules = SyncRules()

    @model_validator(mode="before")
    @classmethod
    def _params_of_the_source(cls, document: Any) -> Any:
        """Give ``ingestion.params`` to the source, whose model checks them."""
        ingestion = document.get("ingestion") if isinstance(document, Mapping) else None
        source = document.get("source") if ingestion is not None else None
        if not isinstance(ingestion, Mapping) or "params" not in ingestion or not isinstance(source, Mapping):
            return document
        if source.get("kind") != "plugin":
            raise ValueError(
                f"ingestion.params are for a source of kind plugin, and this one is of kind {source.get('kind')!r:.40}"
            )
        if source.get("params"):
            raise ValueError("ingestion.params and source.params are the same parameters: leave one of them out")
        rest = {name: value for name, value in ingestion.items() if name != "params"}
        return {**document, "ingestion": rest, "source": {**source, "params": ingestion["params"]}}

    @model_validator(mode="after")
    def _syncs_what_has_periods(self) -> DatasetTemplate:
        if self.sync.kind == "temporal" and self.period_type in ("climatology", "irregular", "none"):
            raise ValueError(f"sync.kind temporal needs periods that follow one another, and {self.period_type} has none")
        return self

    def digest(self) -> str:
        """Return the sha256 of all fields that change values. It does not include texts, licence and render."""
        kept: dict[str, Any] = {"variables": True, "period_type": True, "source": True, "layout": {"chunks"}}
        parts = self.model_dump(mode="json", include=kept) | self.steps()
        # Newer fields count only if they are set, so that the digest of existing datasets does not change.
        said = self.source.told()
        parts["source"] = {name: value for name, value in parts["source"].items() if name in _FIRST_FIELDS or name in said}
        parts["ingestion"] = self.ingestion.of_values()
        if self.time_label == "end":
            parts["time_label"] = "end"  # a label at the start and one in the middle are in the same period
        if self.climatology_period is not None:
            parts["climatology_period"] = list(self.climatology_period)
        return hashlib.sha256(dumps(parts).encode()).hexdigest()


class Extent(_Part):
    """A named area: one file of ``extents/``."""

    extent_id: PublicId
    bbox: Box
    name: str | None = None
    description: str | None = None
    geometry: dict[str, Any] | None = None
    country_code: Annotated[str | None, Field(pattern="^[A-Z]{3}$")] = None
    """ISO 3166-1 alpha-3. It is passed to plugins but never shown."""

    def digest(self) -> str:
        """Return the sha256 of the area."""
        return hashlib.sha256(dumps({"bbox": list(self.bbox)}).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Broken:
    """An invalid configuration entry, with all problems as ``file:line:column: key: message``."""

    name: str
    problems: tuple[str, ...]


class Configuration(Protocol):
    """The instance's templates and extents, read again when their folders change."""

    def look_again(self) -> None:
        """Read changes immediately, without waiting for the next regular check."""

    def templates(self) -> Mapping[str, DatasetTemplate]: ...

    def extents(self) -> Mapping[str, Extent]: ...

    def broken(self) -> tuple[Broken, ...]: ...
