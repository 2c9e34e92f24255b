"""A request with its names resolved: what to read, for which dataset, and with which texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cubeport.catalog.forms.wording import suggestion
from cubeport.cubes.functions import PluginFunction
from cubeport.cubes.recipes import Derivation
from cubeport.cubes.sources import PeriodSource
from cubeport.cubes.steps import TransformStep, plain
from cubeport.documents.licences import doubt
from cubeport.errors import (
    InvalidRequest,
    NotFound,
)
from cubeport.service.datasets import Datasets
from cubeport.service.ingestions import Ingestion, IngestionRequest, Scope
from cubeport.service.ports import (
    SourceFile,
    Sources,
    Storage,
    StoreKey,
    StoreObject,
)
from cubeport.service.scope import TIMELESS, check_asked, check_covered
from cubeport.service.templates import Configuration, DatasetTemplate, Extent, SourceBlock, TemplateFields


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request with its names resolved: what to read, for which dataset, and with which texts."""

    dataset_id: str
    fields: TemplateFields
    files: tuple[Path, ...]
    scope: Scope
    group: str | None = None
    template: DatasetTemplate | None = None
    extent: Extent | None = None
    source: PeriodSource | None = None
    """The source that fetches the files, if they are not on this machine."""
    block: SourceBlock | None = None
    storage: Storage = "copy"
    held: tuple[SourceFile, ...] = ()
    """The sources, where a version may point into them: files of this machine, or copies of what it points into."""
    objects: Mapping[Path, StoreKey] = field(default_factory=dict)
    """Where the files came from, if they are objects of an S3 store."""
    pointed: tuple[StoreObject, ...] = ()
    """The objects that the version points into, in the order of *held*; empty if it points into *held* themselves."""
    grid: Path | None = None
    """The grid file that a step names by its path or address, as soon as it is here."""
    grid_source: PeriodSource | None = None
    """The source that fetches the grid file, if it is on another machine."""
    warnings: tuple[tuple[str, str], ...] = ()
    holds_more: bool = False
    """Whether a file that is fetched for a period can contain other periods too."""

    def is_grid_file(self, name: str) -> bool:
        """Return whether a source of this name is the grid file that a step names by its path or address."""
        found = (each.positions.file for each in self.fields.normalise if each.positions is not None)
        return (self.grid is not None or self.grid_source is not None) and any(
            each is not None and PurePosixPath(each).name == name for each in found
        )

    @property
    def has_dates(self) -> bool:
        """Whether its source returns one period at a time."""
        if self.source is None or self.fields.period_type in TIMELESS:
            return False
        said: bool | None = getattr(self.source, "is_periodic", None)
        # A source that can do both returns everything if the request has no periods.
        return said if said is not None else self.fields.period_type is not None and (self.template or self.scope.start) is not None

    @property
    def is_fetched_by_period(self) -> bool:
        """Whether only missing periods are fetched, so that the coverage alone decides what to do."""
        return self.template is not None and self.has_dates

    @property
    def combined_along(self) -> str | None:
        """The dimension along which the source says that its files are joined."""
        return None if self.block is None else self.block.combine.get("dim")

    @property
    def derivation(self) -> Derivation | None:
        """The derivation, if its source computes the data."""
        found: Derivation | None = getattr(self.source, "derivation", None)
        return found

    @property
    def visibility(self) -> Literal["private", "project"] | None:
        """The visibility that its source gives to a dataset for which nobody has said it."""
        found: Literal["private", "project"] | None = getattr(self.source, "visibility", None)
        return found

    @property
    def template_digest(self) -> str | None:
        """The digest of everything in the template that changes values."""
        return self.template.digest() if self.template else None


@dataclass(frozen=True, slots=True)
class Names:
    """What the names in a request stand for in this instance."""

    configuration: Configuration
    datasets: Datasets
    sources: Sources
    transforms: Mapping[str, PluginFunction] = field(default_factory=dict)
    """The transforms of plugins."""
    default_extent: str | None = None
    """The extent of a template's dataset when a request names none."""

    def resolve(self, ingestion: Ingestion) -> Wanted:
        """Return the request with template, extent, sources and transforms resolved. It reads listings but opens no files.

        Raises
        ------
        NotFound
            If the template, the dataset or the extent does not exist (see ``what``).
        InvalidRequest, SourceRejected
            If a source is not allowed, no plugin provides a transform, or the request fits neither a template nor a direct source.
        """
        wanted = _resolved(
            ingestion,
            configuration=self.configuration,
            datasets=self.datasets,
            sources=self.sources,
            default_extent=self.default_extent,
        )
        if wanted.template is not None and ingestion.kind != "sync":  # a sync asks for what the dataset has, whatever is said now
            check_covered(wanted.template, wanted.scope)
        wanted = self._labelled(ingestion, wanted)
        bound(wanted.fields.transforms, self.transforms)
        if (words := doubt(wanted.fields.license, wanted.fields.license_url)) is not None:
            wanted = replace(wanted, warnings=(*wanted.warnings, ("unknown-licence", words)))
        return wanted

    def _labelled(self, ingestion: Ingestion, wanted: Wanted) -> Wanted:
        """Return it with the time label and the years that the dataset has, if it updates one and does not say others."""
        if wanted.template is not None or ingestion.request.mode == "replace":
            return wanted
        held = self.datasets.find(wanted.dataset_id)
        if held is None or held.state.head is None:
            return wanted
        temporal = self.datasets.cube(held.state.head).description.temporal
        if temporal is None:
            return wanted
        fields = wanted.fields
        kept = {
            "time_label": fields.time_label or temporal.time_label,
            "climatology_period": fields.climatology_period or temporal.given_years,
        }
        return replace(wanted, fields=fields.model_copy(update=kept))


def _resolved(
    ingestion: Ingestion,
    *,
    configuration: Configuration,
    datasets: Datasets,
    sources: Sources,
    default_extent: str | None = None,
) -> Wanted:
    request, options = ingestion.request, ingestion.options
    extents = configuration.extents()
    if options.files:
        return _direct(
            request,
            sources.own(tuple(Path(f) for f in options.files)),
            extents,
            group=_group(options.group, options.filter_by_keys),
        )
    if request.source is not None:
        block = request.source
        fields = request.template or TemplateFields()
        found = sources.resolve(block, asker=ingestion.asker, variables=[each.name for each in fields.variables])
        return _from(found, block, _direct(request, (), extents, group=_group(block.group, block.filter_by_keys)))
    try:
        return _from_template(request, configuration.templates(), extents, datasets, sources, default_extent)
    except NotFound as exc:
        if exc.members["what"] == "template" and configuration.broken():
            exc.next_step = "cubeport check-config: a file in config/datasets has problems"
        raise


def _from(found: tuple[Path, ...] | PeriodSource, block: SourceBlock, wanted: Wanted) -> Wanted:
    if isinstance(found, tuple):
        return replace(wanted, files=found, block=block)
    return replace(wanted, source=found, block=block)


def _direct(
    request: IngestionRequest, files: tuple[Path, ...], extents: Mapping[str, Extent], *, group: str | None = None
) -> Wanted:
    extent = _extent(request.extent_id, extents)
    return Wanted(
        dataset_id=request.dataset_id,
        fields=request.template or TemplateFields(),
        files=files,
        scope=_scope(request, extent),
        group=group,
        extent=extent,
    )


def _group(group: str | None, keys: Mapping[str, str | int]) -> str | None:
    """Return the name of a part of a source: the path of a NetCDF or Zarr group, or the keys of GRIB messages."""
    if group is not None and keys:
        raise InvalidRequest("group is for NetCDF and Zarr, filter_by_keys for GRIB: leave one of them out.")
    return ",".join(f"{key}={value}" for key, value in keys.items()) or group


def _from_template(
    request: IngestionRequest,
    templates: Mapping[str, DatasetTemplate],
    extents: Mapping[str, Extent],
    datasets: Datasets,
    sources: Sources,
    default_extent: str | None,
) -> Wanted:
    if request.template is not None:
        raise InvalidRequest("template goes with source: a template id needs neither.")
    template, extent_id = templates.get(request.dataset_id), request.extent_id
    if template is None:
        template, extent_id = _template_of_dataset(request, templates, datasets)
    elif extent_id is None and default_extent is not None and datasets.find(template.id) is None:
        # A dataset of the whole source, from before the setting, keeps being the one that its id names.
        extent_id = default_extent
        if extent_id not in extents:
            raise NotFound(
                f"There is no extent {extent_id!r}, which default_extent names.",
                what="extent",
                next_step=f"make extents/{extent_id}.yaml, or leave default_extent out of config/service.yaml",
            )
    if template.period_type not in ("none", "climatology"):
        check_asked(_scope(request, None), template.period_type, template.calendar or "standard")
    extent = _extent(extent_id, extents)
    dataset_id = f"{template.id}_{extent.extent_id}" if extent else template.id
    if len(dataset_id) > 64:
        raise InvalidRequest(f"The id {dataset_id!r} is over 64 characters; shorten the template's or the extent's.")
    if template.period_type in ("none", "climatology") and (request.start or request.end):
        raise InvalidRequest(f"Template {template.id!r} has no periods: leave start and end out.")
    held = datasets.find(dataset_id)
    if template.period_type not in ("none", "climatology") and request.start is None and (held is None or held.state.head is None):
        raise InvalidRequest(
            f"start is required: template {template.id!r} has {template.period_type} periods, and nothing of it is ingested yet.",
            next_step=(
                f"name the first period (--start), then `cubeport ingest {template.id}` continues after the last ingested period"
            ),
        )
    wanted = Wanted(
        dataset_id=dataset_id,
        fields=template,
        files=(),
        scope=_scope(request, extent),
        group=_group(template.source.group, template.source.filter_by_keys),
        template=template,
        extent=extent,
    )
    found = sources.resolve(template.source, variables=[each.name for each in template.variables])
    return _from(found, template.source, wanted)


def _template_of_dataset(
    request: IngestionRequest, templates: Mapping[str, DatasetTemplate], datasets: Datasets
) -> tuple[DatasetTemplate, str | None]:
    dataset = datasets.find(request.dataset_id)
    if dataset is None:
        near = suggestion(request.dataset_id, templates)
        raise NotFound(
            f"There is no template {request.dataset_id!r}{near or ', and no source was given.'}",
            what="template",
            next_step="cubeport templates",
        )
    template = templates.get(dataset.state.source_dataset_id or "")
    if template is None:
        if dataset.state.source_dataset_id is not None:
            raise InvalidRequest(
                f"The template {dataset.state.source_dataset_id!r} of dataset {request.dataset_id!r} is missing or has problems.",
                next_step="cubeport check-config; or put its file back into config/datasets",
            )
        raise InvalidRequest(
            f"Dataset {request.dataset_id!r} was made from files that were named directly: name the new ones.",
            next_step=f"cubeport update {request.dataset_id} FILES; or cubeport ingest FILES --id {request.dataset_id} --replace "
            "(in a request: a source, with mode update or replace)",
        )
    if request.extent_id not in (None, dataset.state.extent_id):
        raise InvalidRequest(f"Dataset {request.dataset_id!r} has the extent {dataset.state.extent_id!r}: leave extent_id out.")
    return template, dataset.state.extent_id


def _extent(extent_id: str | None, extents: Mapping[str, Extent]) -> Extent | None:
    if extent_id is None:
        return None
    if extent_id not in extents:
        raise NotFound(f"There is no extent {extent_id!r}.", what="extent", next_step="cubeport extents")
    return extents[extent_id]


def _scope(request: IngestionRequest, extent: Extent | None) -> Scope:
    return Scope(
        start=request.start, end=request.end, extent_id=extent.extent_id if extent else None, bbox=extent.bbox if extent else None
    )


def publishes(request: IngestionRequest, wanted: Wanted) -> bool:
    """Return whether to publish the new version immediately: as in the request, otherwise as in the template."""
    return wanted.fields.publish if request.publish is None else request.publish


def allow_gaps(ingestion: Ingestion, wanted: Wanted) -> bool:
    """Return whether periods may be missing: as in the request, otherwise as in the template. In a derived dataset, those may be of
    which its inputs have too little.
    """
    return ingestion.request.allow_gaps or wanted.fields.ingestion.allow_gaps or wanted.derivation is not None


def bound(
    steps: Sequence[TransformStep], installed: Mapping[str, PluginFunction]
) -> tuple[tuple[Mapping[str, Any], ...], Mapping[str, str]]:
    """Return *steps* as JSON values, with all parameters of the functions of plugins, and the references of these by name.

    Raises
    ------
    InvalidRequest
        If no plugin provides a transform, or it does not take its parameters.
    """
    found, functions = [], {}
    for each, values in zip(steps, plain(tuple(steps)), strict=True):
        if (wanted := each.plugin) is not None:
            if wanted.name not in installed:
                known = ", ".join(sorted(installed)) or "none"
                raise InvalidRequest(
                    f"No plugin provides a transform {wanted.name!r}; installed: {known}.", next_step="cubeport plugins"
                )
            function = installed[wanted.name]
            values = {"plugin": values["plugin"] | {"params": function.bind(wanted.params)}}
            functions[wanted.name] = function.reference
        found.append(values)
    return tuple(found), functions
