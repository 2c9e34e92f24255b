"""Describe: set the texts of a dataset. A change is one commit, which every face shows at the next request. It makes no version.

A text comes from the first of these that has it: a user (``described``), the template, the attributes of the data (CF and ACDD).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cubeport.catalog.catalog import Catalog
from cubeport.catalog.models import CatalogRecord, invalid
from cubeport.cubes.description import CubeDescription
from cubeport.documents.licences import UNSTATED, stated
from cubeport.documents.texts import Provider, Texts
from cubeport.errors import InvalidRequest, PreconditionFailed
from cubeport.service.changes import announce
from cubeport.service.datasets import Dataset, Datasets
from cubeport.service.publish import quantities, with_state
from cubeport.service.state import DatasetState
from cubeport.service.templates import Configuration, Extent, SourceBlock, TemplateFields


def _web(url: str) -> str:
    if not url.lower().startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return url


type _Line = Annotated[str, Field(min_length=1, max_length=1_000)]
type _Words = Annotated[str, Field(min_length=1, max_length=100_000)]
type _Web = Annotated[str, Field(max_length=2_000), AfterValidator(_web)]


class TextChanges(BaseModel):
    """The body of ``PATCH /datasets/{dataset_id}``. Only the given fields change; null resets a field to the template or the
    data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: _Line | None = None
    description: _Words | None = None
    short_name: _Line | None = None
    keywords: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] | None, Field(max_length=200)] = None
    license: _Line | None = None
    license_url: _Web | None = None
    providers: Annotated[tuple[Provider, ...] | None, Field(max_length=100)] = None
    attribution: _Words | None = None
    citation: _Words | None = None
    doi: _Line | None = None
    render: tuple[dict[str, Any], ...] | None = None
    units: _Line | None = None
    resolution: _Line | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, document: Any) -> Any:
        """Accept lists as tuples, because JSON has only lists and strict validation would refuse them."""
        if not isinstance(document, Mapping):
            return document
        fields = {
            name: _tuples(value) if name in ("keywords", "providers", "render") else value for name, value in document.items()
        }
        if isinstance(fields.get("render"), Mapping):
            fields["render"] = (fields["render"],)
        return fields

    @model_validator(mode="after")
    def _named_by_the_web(self) -> TextChanges:
        for each in self.providers or ():
            if each.url is not None:
                _web(each.url)
        return self

    def values(self) -> dict[str, Any]:
        """Return the given fields as JSON values."""
        return self.model_dump(mode="json", include=self.model_fields_set)


TEXTS = tuple(TextChanges.model_fields)
"""The texts that users can set. Other texts come only from the source and the data."""


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(each) for each in value)
    if isinstance(value, Mapping) and isinstance(value.get("roles"), list):
        return {**value, "roles": tuple(value["roles"])}
    return value


def read(values: Mapping[str, Any]) -> TextChanges:
    """Return the changes in *values*. Raises InvalidRequest with the place of each problem."""
    try:
        return TextChanges.model_validate(dict(values))
    except ValidationError as exc:
        raise invalid("texts", exc, TextChanges) from None


def base_texts(
    dataset_id: str,
    fields: TemplateFields,
    description: CubeDescription,
    period_type: str | None,
    *,
    source: SourceBlock | None = None,
    extent: Extent | None = None,
) -> Texts:
    """Return the texts of the template, otherwise those of the data's attributes (CF and ACDD)."""
    said = description.attributes

    def text(*names: str) -> str | None:
        return next((value.strip() for name in names if isinstance(value := said.get(name), str) and value.strip()), None)

    title = fields.title or description.title or text("title") or dataset_id
    if extent is not None:
        title = f"{title}: {extent.name or extent.extent_id}"
    keywords = fields.keywords or tuple(k.strip() for k in (text("keywords") or "").split(",") if k.strip())
    institution = text("institution")
    licence = stated(said) if fields.license is None else None
    first = description.variable(description.fields[0]) if description.fields else None
    return Texts(
        dataset_id=dataset_id,
        title=title,
        description=fields.description or description.description or text("summary", "comment") or title,
        short_name=fields.short_name,
        keywords=tuple(dict.fromkeys(k[:128] for k in keywords)),
        license=fields.license or (licence.identifier if licence else UNSTATED),
        license_url=fields.license_url or (licence.url if licence else None),
        providers=fields.providers or ((Provider(name=institution, roles=("producer",)),) if institution else ()),
        attribution=fields.attribution or (licence.text if licence else None),
        citation=fields.citation or text("references"),
        doi=fields.doi,
        source=(source.name if source else None) or text("source"),
        source_url=source.homepage if source else None,
        render=fields.render,
        period_type=period_type,
        units=fields.units or (first.units if first else None),
        resolution=fields.resolution,
    )


def given(fields: TemplateFields) -> dict[str, Any]:
    """Return the texts in a request for a direct source. They are set like those of :func:`describe`."""
    named = fields.model_fields_set & set(TEXTS)
    return {name: value for name, value in fields.model_dump(mode="json", include=named).items() if value not in (None, [], ())}


def texts(base: Texts, described: Mapping[str, Any]) -> Texts:
    """Return *base* with the texts that users set."""
    return Texts.model_validate({**base.model_dump(mode="json"), **described}, strict=False)


def describe(
    catalog: Catalog,
    datasets: Datasets,
    configuration: Configuration,
    dataset_id: str,
    changes: TextChanges,
    *,
    if_match: int | None = None,
) -> CatalogRecord:
    """Set texts of a dataset, or reset them to the template and the data. Repeating it changes nothing.

    Raises
    ------
    NotFound
        If the dataset does not exist.
    InvalidRequest
        If no text is given.
    PreconditionFailed
        If *if_match* is not the record's version.
    """
    values = changes.values()
    if not values:
        raise InvalidRequest("Name at least one text to set.", next_step=f"cubeport describe {dataset_id} --title TEXT")
    dataset = datasets.get(dataset_id)
    if if_match is not None and if_match != dataset.record.version:
        raise PreconditionFailed(f"Dataset {dataset_id!r} is at record version {dataset.record.version}.")
    base = _base(dataset, datasets, configuration).model_dump(mode="json")
    described = {name: value for name, value in {**dataset.state.described, **values}.items() if value is not None}
    said = {name: base[name] if value is None else value for name, value in values.items()}
    return _commit(catalog, datasets, dataset, texts(dataset.state.texts, said), described)


def refresh(catalog: Catalog, datasets: Datasets, configuration: Configuration, dataset_id: str) -> CatalogRecord:
    """Update the dataset's texts from its template and extent, and the words for searches. Texts of users stay. Raises NotFound."""
    dataset = datasets.get(dataset_id)
    current = dataset.state.texts
    if dataset.state.source_dataset_id in configuration.templates():
        current = texts(_base(dataset, datasets, configuration), dataset.state.described)
    return _commit(catalog, datasets, dataset, current, dataset.state.described)


def _commit(catalog: Catalog, datasets: Datasets, dataset: Dataset, texts: Texts, described: Mapping[str, Any]) -> CatalogRecord:
    known = dataset.state.quantities
    if dataset.state.latest:
        known = quantities(datasets.cube(dataset.state.latest).description)  # a version of an earlier release has none
    state = dataset.state.model_copy(update={"texts": texts, "described": dict(described), "quantities": known})
    if state == dataset.state:
        return dataset.record
    with catalog.unit_of_work(operation_type="describe", inputs=(dataset.record.id,)) as work:
        after = with_state(dataset.record, state)
        work.update_record(after)
        announce(work, catalog.backend, dataset.record, after, "metadata")
        return work.commit().records[0]


def _base(dataset: Dataset, datasets: Datasets, configuration: Configuration) -> Texts:
    """Return the current texts of the template and the data, or only those of the data if there is no template."""
    state: DatasetState = dataset.state
    version_id = state.latest or state.head
    description = datasets.cube(version_id).description if version_id else None
    if description is None:
        return state.texts
    template = configuration.templates().get(state.source_dataset_id or "")
    return base_texts(
        state.texts.dataset_id,
        template or TemplateFields(),
        description,
        state.texts.period_type,
        source=template.source if template else None,
        extent=configuration.extents().get(state.extent_id or ""),
    )
