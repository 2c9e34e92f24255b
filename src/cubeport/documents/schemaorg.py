"""Datasets as schema.org metadata in JSON-LD, which search engines for data read (schema.org/Dataset; the guidelines of
science-on-schema.org for datasets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.cubes.description import BoundingBox
from cubeport.documents.native import DatasetDetail

_DISTRIBUTED = ("download", "zarr", "opendap")
"""The relations of the links that lead to the data."""


def dataset(
    detail: DatasetDetail,
    *,
    bbox: BoundingBox | None,
    version: str | None,
    catalog: tuple[str, str],
) -> Mapping[str, Any]:
    """Return the document of a dataset. What is unknown is not in it.

    Parameters
    ----------
    bbox
        ``west, south, east, north`` in degrees (OGC:CRS84).
    version
        The version that it describes.
    catalog
        Title and address of the service.
    """
    links = {link.rel: link for link in detail.links}
    title, address = catalog
    found: dict[str, Any] = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "@id": links["self"].href,
        "name": detail.dataset_name,
        "description": summary(detail),
        "identifier": f"https://doi.org/{detail.doi}" if detail.doi else detail.dataset_id,
        "url": links["self"].href,
        "keywords": list(detail.keywords),
        "version": version,
        "license": detail.license_url,
        "citation": detail.citation,
        "dateModified": detail.model_dump(mode="json", include={"last_updated"})["last_updated"],
        "includedInDataCatalog": {"@type": "DataCatalog", "name": title, "url": address},
        "creator": _people(detail, "producer"),
        "provider": _people(detail, "host"),
        "variableMeasured": [
            _known({"@type": "PropertyValue", "name": v.name, "description": v.long_name, "unitText": v.units})
            | ({"propertyID": v.standard_name} if v.standard_name else {})
            for v in detail.variables
        ],
        "distribution": [
            _known({"@type": "DataDownload", "name": link.title, "contentUrl": link.href, "encodingFormat": link.type})
            for rel in _DISTRIBUTED
            if (link := links.get(rel)) is not None
        ],
    }
    if detail.extent.temporal:
        found["temporalCoverage"] = f"{detail.extent.temporal.start}/{detail.extent.temporal.end}"
    if bbox is not None:
        west, south, east, north = bbox
        # A GeoShape has latitudes first, "lower corner upper corner"; over the antimeridian, the first longitude is the larger one.
        found["spatialCoverage"] = {"@type": "Place", "geo": {"@type": "GeoShape", "box": f"{south:g} {west:g} {north:g} {east:g}"}}
    return _known(found)


def summary(detail: DatasetDetail) -> str:
    """Return the description, or what is known of a dataset that nobody described: its variables, its times and its cells."""
    if detail.description not in ("", detail.dataset_name, detail.dataset_id):
        return detail.description
    names = [each.long_name or (each.standard_name or each.name).replace("_", " ") for each in detail.variables]
    parts = [", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")]
    if detail.extent.temporal:
        first, last = detail.extent.temporal.start, detail.extent.temporal.end
        parts.append(f"{first}" if first == last else f"{first} to {last}")
    if detail.grid is not None:
        parts.append(f"{' × '.join(map(str, detail.grid.shape))} cells")
    return f"{detail.dataset_name}: {'; '.join(each for each in parts if each)}"


_NAMED = 5
"""Variables that a summary names."""


def _people(detail: DatasetDetail, role: str) -> Sequence[Mapping[str, Any]]:
    return [
        _known({"@type": "Organization", "name": each.name, "url": each.url})
        for each in detail.providers
        if role in (each.roles or ())
    ]


def _known(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in (None, "", [], ())}
