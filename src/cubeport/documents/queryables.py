"""The queryables of filters as JSON Schema (OGC API - Features - Part 3, 6; STAC API, Filter extension)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TIME = {"type": "string", "format": "date-time"}
_TEXTS = {"type": "array", "items": {"type": "string"}}

QUERYABLES: Mapping[str, Mapping[str, Any]] = {
    "id": {"title": "Id", "type": "string"},
    "collection": {"title": "Collection", "type": "string"},
    "title": {"title": "Title", "type": "string"},
    "description": {"title": "Description", "type": "string"},
    "keywords": {"title": "Keywords", **_TEXTS},
    "license": {"title": "Licence", "type": "string"},
    "datetime": {"title": "Time, where it is one instant; in temporal functions also the whole time of what lasts", **_TIME},
    "start_datetime": {"title": "First time", **_TIME},
    "end_datetime": {"title": "Last time", **_TIME},
    "created": {"title": "When the version was made", **_TIME},
    "updated": {"title": "When the dataset last changed what it shows; of collections", **_TIME},
    "version": {"title": "Version id", "type": "string"},
    "deprecated": {"title": "Whether a newer version is shown; of items", "type": "boolean"},
    "geometry": {"title": "Footprint in CRS84", "$ref": "https://geojson.org/schema/Geometry.json"},
    "variables": {"title": "Names of the data variables", **_TEXTS},
    "standard_names": {"title": "CF standard names of the data variables", **_TEXTS},
}
"""The names that every filter can use. Other names refer to properties of the item, and are missing if it does not have them."""


def queryables(address: str, *, title: str, values: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Return the document for the URL *address*.

    Parameters
    ----------
    title
        The title of what is searched: everything, or one collection.
    values
        The possible texts of names whose values are known. They become an ``enum``.
    """
    properties = {name: dict(schema) for name, schema in QUERYABLES.items()}
    for name, known in (values or {}).items():
        schema = properties[name]
        if schema["type"] == "array":
            schema["items"] = {"type": "string", "enum": list(known)}
        else:
            schema["enum"] = list(known)
    return {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$id": address,
        "type": "object",
        "title": title,
        "properties": properties,
        "additionalProperties": True,
    }
