"""Validate documents against published schemas, offline: ``https://HOST/PATH`` is the file ``HOST/PATH`` of the schemas folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, FormatChecker
from jsonschema_specifications import REGISTRY
from referencing import Registry, Resource
from referencing.exceptions import NoSuchResource
from referencing.jsonschema import DRAFT7

CORE = {
    "Catalog": "https://schemas.stacspec.org/v1.1.0/catalog-spec/json-schema/catalog.json",
    "Collection": "https://schemas.stacspec.org/v1.1.0/collection-spec/json-schema/collection.json",
    "Feature": "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json",
}


@cache
def retriever(schemas: Path) -> Callable[[str], Resource[Any]]:
    """Return what reads a schema from the folder and refuses everything else: nothing is ever fetched."""

    def retrieve(uri: str) -> Resource[Any]:
        plain = uri.split("#")[0]
        path = (schemas / plain.split("://", 1)[1]).resolve()
        if not plain.startswith("https://") or not path.is_relative_to(schemas) or not path.is_file():
            raise NoSuchResource(ref=uri)
        return Resource.from_contents(json.loads(path.read_bytes()), default_specification=DRAFT7)

    return retrieve


@cache
def validator(schemas: Path, uri: str) -> Draft7Validator:
    retrieve = retriever(schemas)
    registry: Registry[Any] = Registry(retrieve=retrieve).combine(REGISTRY)  # type: ignore[call-arg]
    return Draft7Validator(retrieve(uri).contents, registry=registry, format_checker=FormatChecker())


def _fields(document: dict[str, Any], schemas: Path) -> list[str]:
    """Check what the extensions only check in part: proj at the top of a Collection, zarr and xarray in every asset."""
    found = []
    places = [
        document,
        document.get("properties", {}),
        *document.get("assets", {}).values(),
        *document.get("item_assets", {}).values(),
    ]
    for prefix, extension in (("proj:", "projection/v2.0.0"), ("zarr:", "zarr/v1.1.0"), ("xarray:", "xarray-assets/v1.0.0")):
        uri = f"https://stac-extensions.github.io/{extension}/schema.json"
        used = [{key: value for key, value in place.items() if key.startswith(prefix)} for place in places]
        if any(used) and uri not in document.get("stac_extensions", []):
            found.append(f"{prefix} is used and not declared")
        definition = validator(schemas, uri).evolve(schema={"$ref": f"{uri}#/definitions/fields"})
        found += [f"{extension} {error.message[:200]}" for each in used for error in definition.iter_errors(each)]
    return found


def problems(document: dict[str, Any], schemas: Path) -> list[str]:
    """Return all that is wrong with a STAC document by the core and by every extension that it declares."""
    found = []
    # The schemas of web-map-links and attribution are not among those that are kept here: a skip, and not a pass.
    declared = [
        uri for uri in document.get("stac_extensions", []) if not any(name in uri for name in ("/web-map-links/", "/attribution/"))
    ]
    for uri in (CORE[document["type"]], *declared):
        for error in validator(schemas, uri).iter_errors(document):
            deepest = error
            while deepest.context:
                deepest = min(deepest.context, key=lambda each: (-len(each.absolute_path), str(each.message)))
            found.append(f"{uri.rsplit('/', 3)[-3]} {list(deepest.absolute_path)}: {str(deepest.message)[:200]}")
    found += _fields(document, schemas)
    # datacube 2.3.0 checks `variable_type` where its own text says `type`
    for where in (document, document.get("properties", {})):
        for name, variable in where.get("cube:variables", {}).items():
            if variable.get("type") not in ("data", "auxiliary"):
                found.append(f"cube:variables {name}: type {variable.get('type')!r}")
    return found
