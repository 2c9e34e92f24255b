"""``/records``: the records of the catalog, of any kind, with their bytes. A record that the caller may not see is 404."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from cubeport.catalog.history import Edit
from cubeport.catalog.models import Artifact, CatalogRecord, RecordStatus
from cubeport.catalog.query import Query
from cubeport.catalog.terms import Scalar, canonical_field, parse_term
from cubeport.documents import native
from cubeport.documents import records as documents
from cubeport.errors import ArtifactMissing, InvalidRequest
from cubeport.server import incoming, replies
from cubeport.server.auth import caller_of, require
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Parts
from cubeport.server.ranges import RangedFile
from cubeport.server.zarr import PIECE

_MOST_FACETS = 10

MOST_READ = 100_000
"""How many records one request tests for a condition that no index answers, which takes about a tenth of a second."""

MOST_COUNTED = 10_000
"""Among how many records ``count`` and ``facets`` count, and how many are sorted in an order that no index has."""

_Text = Annotated[str, Field(max_length=1000)]


class RecordsQuery(incoming.Model):
    """The parameters of ``GET /records``. ``where`` and ``not`` can be repeated."""

    where: Annotated[
        tuple[_Text, ...], Field(description='FIELD OP VALUE, for example year>=2018 or title:"sea ice". Repeated: all must match')
    ] = ()
    not_: Annotated[tuple[_Text, ...], Field(alias="not", description="The same, of what must not match")] = ()
    q: Annotated[str | None, Field(description="Words to find in title, description, tags or key", max_length=500)] = None
    bbox: incoming.BBox | None = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..", max_length=100)] = None
    kind: Annotated[str | None, Field(description="Kinds with commas between them", max_length=400)] = None
    status: Annotated[RecordStatus | Literal["any"], Field(description="Deleted records need the scope ingest")] = "active"
    sort: Annotated[str, Field(description="Fields with commas between them; - before one for descending", max_length=500)] = (
        "-created_at"
    )
    facets: Annotated[
        str | None, Field(description="Fields with commas between them, whose values are counted", max_length=500)
    ] = None
    limit: incoming.Limit = 100
    cursor: incoming.Cursor | None = None
    count: Annotated[bool, Field(description="Whether to count all that match, up to 10,000")] = False

    def query(self) -> Query:
        """Return the query for the catalog. Raises InvalidFilter."""
        return Query(
            where=[*map(parse_term, self.where), *(parse_term(each, negate=True) for each in self.not_)],
            text=self.q,
            time=self.datetime,
            bbox=None if self.bbox is None else tuple(map(float, self.bbox.split(","))),
            kinds=None if self.kind is None else _parts(self.kind),
            statuses=None if self.status == "any" else (self.status,),
            order=_parts(self.sort),
            limit=self.limit,
            cursor=self.cursor,
            count=self.count,
            most_read=MOST_READ,
            most_counted=MOST_COUNTED,
        )


class RecordList(native.Listing[documents.RecordDocument]):
    """A page of records, and the counted values of ``facets``."""

    counts: Literal["exact", "at least"] | None = None
    """Whether ``number_matched`` and ``facets`` count all records that match, or those of the first 10,000."""
    facets: dict[str, tuple[documents.FacetValue, ...]] | None = None


SCHEMAS = (
    RecordList,
    documents.RecordDocument,
    documents.LineageDocument,
    native.Listing[documents.EditDocument],
    native.Listing[documents.ArtifactDocument],
)


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Records(parts)

    def add(template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=["GET"], summary=summary, tags=["Records"], **described(template, **description)
        )

    add("/records", face.list, "Records of the catalog", query=RecordsQuery, schema=RecordList)
    one = "/records/{record_id}"
    add(one, face.get, "One record, by its id or key", schema=documents.RecordDocument)
    add(f"{one}/history", face.history, "Its versions, newest first", schema=native.Listing[documents.EditDocument])
    add(f"{one}/lineage", face.lineage, "Where it comes from, and what comes from it", schema=documents.LineageDocument)
    add(f"{one}/artifacts", face.artifacts, "Its artifacts", schema=native.Listing[documents.ArtifactDocument])
    add(
        f"{one}/artifacts/{{artifact_id}}",
        face.content,
        "The bytes of an artifact",
        statuses=(*READ, 416),
        success={200: "The bytes", 206: "A part of them"},
        media_types=("application/octet-stream",),
    )
    # In OpenAPI, {record_id} and {record_key} would be one address.
    router.add_api_route("/records/{record_key:path}", face.of_key, methods=["GET"], include_in_schema=False)
    return router


class _Records:
    def __init__(self, parts: Parts) -> None:
        self._service = parts.service
        self._url = parts.public_url

    def list(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], RecordsQuery, lists=("where", "not"))
        if asked.status in ("any", "deleted"):
            require(request, "ingest")
        query, fields = asked.query(), _facets(asked)

        def build() -> bytes:
            page = self._service.records.page(query)
            links = replies.page_links(f"{self._url}/records", request, page.next)
            items = [documents.record(self._service.records.told(each), self._url) for each in page]
            listing = native.listing("RecordList", items, links, matched=page.matched, damaged=page.damaged)
            whole = not page.at_least
            if fields:
                counted = self._service.records.facets(query, fields)
                listing["facets"] = {name: _counted(each) for name, each in counted.values.items()}
                whole = whole and counted.whole
            if fields or query.count:
                listing["counts"] = "exact" if whole else "at least"
            return replies.dumps(listing)

        return self._of_now(request, build)

    def get(self, request: Request) -> Response:
        it = self._record(request)
        told = self._service.records.told
        return self._of_record(request, it, lambda: documents.record(told(it), self._url).model_dump_json().encode())

    def of_key(self, request: Request) -> Response:
        """Lead to a record whose key has a /, such as a DOI: no address of one part has such a key."""
        found = self._service.records.get(request.path_params["record_key"], deleted=caller_of(request).may("ingest"))
        query = request.scope["query_string"].decode("latin-1")
        return RedirectResponse(f"{self._url}/records/{found.id}" + (f"?{query}" if query else ""))

    def history(self, request: Request) -> Response:
        it = self._record(request)

        def build() -> bytes:
            edits: Sequence[Edit] = self._service.records.edits(it)
            return self._listing(request, "EditList", [documents.edit(each) for each in edits])

        return self._of_now(request, build)  # callers see different parts of it

    def lineage(self, request: Request) -> Response:
        it = self._record(request)
        # Other records can change without this one.
        return self._of_now(request, lambda: replies.dumps(self._service.records.lineage(it).to_mapping()))

    def artifacts(self, request: Request) -> Response:
        it = self._record(request)
        items = [documents.artifact(it, each, self._url) for each in it.artifacts]
        return self._of_record(request, it, lambda: self._listing(request, "ArtifactList", items))

    async def content(self, request: Request) -> Response:
        it = await asyncio.to_thread(self._record, request)
        wanted = request.path_params["artifact_id"]
        chosen = next((each for each in it.artifacts if each.artifact_id == wanted), None)
        if chosen is None:
            raise ArtifactMissing(f"Record {it.id} has no artifact {wanted[:40]!r}.", next_step=f"{self._url}/records/{it.id}")
        found = await asyncio.to_thread(self._service.records.open, chosen)
        headers = _headers(chosen)
        tag = replies.etag("artifact", it.id, chosen.artifact_id, found.tag) if found.tag is not None else None
        if tag is not None:
            headers["ETag"] = tag
            if replies.fits(request.headers.get("if-none-match"), tag):
                found.file.close()
                return Response(status_code=304, headers=headers)
        if found.size is None:
            return StreamingResponse(_pieces(found.file), headers=headers)
        return RangedFile(found.file, found.size, headers)

    def _record(self, request: Request) -> CatalogRecord:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found: CatalogRecord = self._service.records.get(request.path_params["record_id"], deleted=caller_of(request).may("ingest"))
        return found

    def _of_now(self, request: Request, build: Callable[[], bytes]) -> Response:
        return replies.reply(request, build, tag=replies.etag_of_list(self._service.generation(), request, "json", self._url))

    def _of_record(self, request: Request, it: CatalogRecord, build: Callable[[], bytes]) -> Response:
        if it.lineage:  # what is told of parents depends on them and on the caller
            return self._of_now(request, build)
        tag = replies.etag(it.id, request.scope["path"], it.version, it.status, replies.REVISION, self._url)
        return replies.reply(request, build, tag=tag)

    def _listing(self, request: Request, kind: str, items: Sequence[native.NativeDocument]) -> bytes:
        address = f"{self._url}{quote(request.scope['path'])}"
        return replies.dumps(native.listing(kind, items, replies.page_links(address, request, None)))


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _headers(artifact: Artifact) -> dict[str, str]:
    name = artifact.original_name or artifact.artifact_id
    return {
        "Content-Type": artifact.media_type or "application/octet-stream",
        "Cache-Control": replies.NO_CACHE,
        # Whatever the file contains, it is saved and never shown as a page of this server.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def _parts(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def _facets(asked: RecordsQuery) -> tuple[str, ...]:
    fields = tuple(map(canonical_field, _parts(asked.facets or "")))
    if len(fields) > _MOST_FACETS:
        raise InvalidRequest(f"facets names {len(fields)} fields; at most {_MOST_FACETS} are counted at once.")
    return fields


def _counted(values: Sequence[tuple[Scalar, int]]) -> list[dict[str, Any]]:
    return [{"value": value, "records": count} for value, count in values]
