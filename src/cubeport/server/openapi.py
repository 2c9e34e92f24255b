"""The OpenAPI 3.1 document: all routes with parameters and statuses, from the models that validate them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from cubeport.server import negotiation, problems
from cubeport.server.browsing import BROWSABLE, ONLY_DOCUMENTS, has_values

_STATUSES = {
    400: "The request is not valid",
    401: "A valid key is needed",
    403: "The key does not allow this, or the server only reads",
    404: "Nothing was found for this request",
    406: "None of the requested formats is available",
    409: "The request conflicts with the present state",
    410: "It existed and was removed",
    412: "It has changed since it was read",
    413: "Over a limit",
    414: "The address is too long",
    415: "The body is not JSON",
    416: "The range is outside the object",
    422: "The source was refused",
    429: "Too many requests",
    500: "Something in the service went wrong",
    502: "The source's server failed",
    503: "Something that the service needs does not answer",
    504: "The source's server took too long",
    507: "There is not enough free space",
}

READ = (400, 401, 403, 404, 410, 414, 500, 503)
"""The statuses of all reads."""
WRITE = (*READ, 409, 412, 413, 415)
INGEST = (*WRITE, 422, 429, 502, 504, 507)

_ID = "^[a-z0-9][a-z0-9_-]{0,63}$"
_REF = "^[a-z0-9][a-z0-9_-]{0,63}(@[a-z0-9][a-z0-9._-]{0,63})?$"
_COVERAGE = "^[a-z0-9][a-z0-9_-]{0,63}(:[A-Za-z0-9_.-]{1,255})?(@[a-z0-9][a-z0-9._-]{0,63})?$"
_PATH_PARAMETERS: Mapping[str, tuple[str, str]] = {
    "dataset_id": (_REF, "A dataset's id, or pinned: id@version, id@tag, id@latest"),
    "collection_id": (_REF, "A dataset's id, or pinned: id@version, id@tag, id@latest"),
    "coverage_id": (_COVERAGE, "A dataset's id, of another of its grids id:grid; pinned with @version, @tag or @latest"),
    "dap_name": (
        r"^[a-z0-9][a-z0-9_-]{0,63}(@[a-z0-9][a-z0-9._-]{0,63})?(\.(dds|das|dods|ascii|asc|info|ver))?$",
        "A dataset's id, or pinned, with the ending that says what of it",
    ),
    "griddap_id": (_COVERAGE, "A dataset's id, of another of its grids id:grid; pinned with @version, @tag or @latest"),
    "griddap_name": (
        r"^[a-z0-9][a-z0-9_-]{0,63}(:[A-Za-z0-9_.-]{1,255})?(@[a-z0-9][a-z0-9._-]{0,63})?"
        r"(\.(csv|csvp|csv0|json|nc|png|transparentPng|dds|das|dods|asc|ncml|html))?$",
        "A dataset's id, with the ending that says the form",
    ),
    "table_form": ("^(csv|json)$", "csv or json"),
    "item_id": (_REF, "id@version"),
    "beginning": (_ID, "The beginning of the ids of datasets"),
    "ref": ("^[a-z0-9][a-z0-9._-]{0,63}$", "A version id, a tag, or latest"),
    "record_id": ("^[^/]{1,512}$", "A record's id or key, or the beginning of an id. A key with / leads to the id"),
    "artifact_id": ("^[0-9a-f]{8}$", "An artifact's id"),
    "extent_id": (_ID, "A named area's id"),
    "template_id": (_ID, "A template's id"),
    "zone_set_id": (_ID, "A zone set's id; of an extent too, which is a set with one zone"),
    "ingestion_id": ("^[0-9a-f]{32}$", "An ingestion's id"),
    "digest": ("^[0-9a-f]{64}$", "The digest of a version: sha256 of its manifest"),
    "sha256": ("^[0-9a-f]{64}$", "The sha256 of an object"),
    "kind": ("^[a-z][a-z-]{0,63}$", "A problem's kind"),
}


def described(
    template: str,
    *,
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    body_required: bool = True,
    raw_body: str | None = None,
    statuses: Iterable[int] = READ,
    success: Mapping[int, str] | None = None,
    media_types: Iterable[str] = ("application/json",),
    schema: type[BaseModel] | None = None,
    problem_types: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the arguments of a route that describe its parameters and answers in OpenAPI.

    Parameters
    ----------
    problem_types
        Media types of errors besides those of all routes, for faces whose clients have a form of their own.
    """
    own = {"collection_id": "coverage_id"} if template.startswith("/ogcapi") else {}
    parameters = [_path_parameter(name, own.get(name, name)) for name in re.findall(r"\{(\w+)(?::\w+)?\}", template)]
    if query is not None:
        parameters += _query_parameters(query)
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if body is not None:
        reference = {"$ref": f"#/components/schemas/{body.__name__}"}
        extra["requestBody"] = {"required": body_required, "content": {"application/json": {"schema": reference}}}
    if raw_body is not None:
        extra["requestBody"] = {"required": True, "content": {raw_body: {"schema": {"type": "string", "format": "binary"}}}}
    answer = {"schema": {"$ref": f"#/components/schemas/{_name(schema)}"}} if schema is not None else {}
    types = [*media_types, *(["text/html"] if query is not None and _has_page(query) else [])]
    content = {media_type: answer if "json" in media_type else {} for media_type in types}
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": content} for status, text in (success or {200: "As asked"}).items()
    }
    if 304 not in (success or {}):
        responses["304"] = {"description": "The client's copy is still current"}
    problem = {**_PROBLEM, **{each: {} for each in problem_types}}
    responses |= {str(status): {"description": _STATUSES[status], "content": problem} for status in sorted(statuses)}
    extra["responses"] = responses
    return {"openapi_extra": extra, "response_class": Response}


def _has_page(query: type[BaseModel]) -> bool:
    """Return whether ``f`` can be ``html``."""
    form = query.model_fields.get("f")
    return form is not None and any("html" in get_args(each) for each in get_args(form.annotation))


_PROBLEM = {
    problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
    negotiation.HTML: {},  # for a client that prefers a page
}


def _path_parameter(name: str, meaning: str) -> dict[str, Any]:
    pattern, text = _PATH_PARAMETERS.get(meaning, (".+", name.replace("_", " ")))
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string", "pattern": pattern}}


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", ())
    found = []
    for name, value in schema.get("properties", {}).items():
        text = value.pop("description", None)
        value.pop("title", None)
        parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in required, "schema": value}
        found.append(parameter | ({"description": text} if text else {}))
    return found


def _name(model: type[BaseModel]) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", model.__name__).strip("_")


def document(
    framework: FastAPI,
    models: Iterable[type[BaseModel]],
    *,
    public_url: str,
    limits: Mapping[str, int],
    examples: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document: the descriptions of the routes, the *models* as components, and one schema for problems.

    Parameters
    ----------
    examples
        Example values by the name of a parameter, from an existing dataset. The API page fills them in.
    """
    made = deepcopy(framework.openapi())  # FastAPI caches its document
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[_name(model)] = schema
    schemas["Problem"] = PROBLEM_SCHEMA
    made["servers"] = [{"url": public_url}]
    made["info"]["x-OGC-limits"] = {"coverages": {"maxCells": limits.get("binary_cells", 0)}}
    made["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key: cp_…"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _exemplify(path, operation, examples or {})
            # FastAPI adds its own 200 to the declared answers; ours are complete.
            operation["responses"] = {
                status: answer
                for status, answer in operation["responses"].items()
                if answer.get("description") != "Successful Response"
            }
            if method == "get" and (path in BROWSABLE or has_values(path)):
                operation["responses"]["200"]["content"].setdefault("text/html", {})
                if not path.startswith(ONLY_DOCUMENTS):
                    operation["responses"].setdefault("406", operation["responses"]["404"] | {"description": _STATUSES[406]})
            if method != "get" or path.startswith("/ingestions"):
                operation["security"] = [{"bearer": []}, {"header": []}]
    return made


_EXAMPLES: Mapping[str, Any] = {
    "q": "temperature",
    "limit": 10,
    "kind": "not-found",
    "name": "cubeport.css",
    "style_id": "viridis",
    "tms": "WebMercatorQuad",
    "zoom": 0,
    "row": 0,
    "column": 0,
    "within": 500,
    "within-units": "km",
    "corridor-width": 500,
    "width-units": "km",
    "REQUEST": "GetCapabilities",
    "process_id": "zonal-statistics",
}
_PLACES = {"area": "polygon", "trajectory": "line", "corridor": "line"}
"""The example for ``coords`` by query. Other queries have a point."""
_BODIES: Mapping[str, Any] = {
    "/ingestions": {"dataset_id": "sea-ice", "source": "incoming/*.nc", "template": {"title": "Sea ice"}},
    "/datasets/{dataset_id}/publish": {"version": "latest"},
    "/stac/search": {"bbox": [-10, 35, 30, 60], "limit": 10},
}


def _exemplify(path: str, operation: dict[str, Any], examples: Mapping[str, Any]) -> None:
    """Set working examples for parameters and body of an operation. Optional parameters that narrow the answer stay empty."""
    required = path.endswith(("/position", "/area", "/cube", "/radius", "/trajectory", "/corridor"))
    place = _PLACES.get(path.rsplit("/", 1)[1])
    known = dict(_EXAMPLES) | dict(examples) | ({"coords": examples.get(place)} if place is not None else {})
    for parameter in operation.get("parameters", ()):
        value = known.get(parameter["name"])
        if value is not None and (parameter["required"] or required or parameter["name"] in _ALWAYS):
            parameter["example"] = value
        elif value is not None:
            parameter["schema"] = {**parameter["schema"], "examples": [value]}
    if path in _BODIES and "requestBody" in operation:
        for content in operation["requestBody"]["content"].values():
            content["example"] = _BODIES[path]


_ALWAYS = frozenset({"zones", "limit", "bbox", "datetime", "properties", "parameter-name", "f", "REQUEST"})

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `kind` is never renamed; `code` and `description` repeat `kind` and `detail` for OGC and STAC.",
    "required": ["type", "kind", "title", "status", "detail", "instance", "errors", "code", "description"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "kind": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id, also in X-Request-Id"},
        "code": {"type": "string"},
        "description": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "kind", "message"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "kind": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
