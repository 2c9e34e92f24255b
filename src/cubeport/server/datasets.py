"""``/datasets``: lists, documents and versions of datasets, and actions on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.catalog.forms import cursors
from cubeport.cubes.view import View
from cubeport.documents import native as documents
from cubeport.documents.native import DatasetDetail, DatasetSummary, Version
from cubeport.documents.texts import PublishedView
from cubeport.errors import CursorExpired, InvalidCursor, InvalidRequest, NotFound
from cubeport.server import dataset_page, incoming, negotiation, replies, streams
from cubeport.server.auth import caller_of, require, sees_unpublished
from cubeport.server.bodies import ChangeList, Citation, PublishRequest, RollbackRequest, TagRequest, VersionDiff
from cubeport.server.incoming import FormQuery, PageQuery
from cubeport.server.openapi import READ, WRITE, described
from cubeport.server.parts import Keeps, Parts
from cubeport.service import diff, present
from cubeport.service.changes import Change, ChangePage
from cubeport.service.describe import TextChanges
from cubeport.service.pictures import moment
from cubeport.service.queries import no_place
from cubeport.service.state import VersionState
from cubeport.service.viewing import sees

_DIFFS = 2
"""How many differences are computed at the same time. Another one waits a little and is then refused."""
_DIFF_S = 30.0
"""How long one difference may take, in seconds."""

_CHANGES_POLL_S = 0.25
"""How often a request that waits for changes checks for them, in seconds."""

Sort = Literal["dataset_id", "-dataset_id", "dataset_name", "-dataset_name", "last_updated", "-last_updated"]


class DatasetsQuery(incoming.Model):
    """The parameters of ``GET /datasets``."""

    q: Annotated[str | None, Field(description="Words to find", max_length=500)] = None
    bbox: incoming.BBox | None = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..", max_length=100)] = None
    variable: Annotated[str | None, Field(max_length=200)] = None
    period_type: Annotated[str | None, Field(max_length=40)] = None
    source_dataset_id: Annotated[str | None, Field(max_length=64)] = None
    extent_id: Annotated[str | None, Field(max_length=64)] = None
    keyword: Annotated[str | None, Field(max_length=200)] = None
    updated_since: Annotated[
        incoming.Moment | None, Field(description="Only datasets of which something changed at this time or later, RFC 3339")
    ] = None
    license: Annotated[str | None, Field(max_length=200)] = None
    publication: Literal["published", "unpublished", "any"] = "published"
    sort: Sort = "dataset_id"
    limit: incoming.Limit = 100
    cursor: incoming.Cursor | None = None
    count: bool = False


class ViewQuery(FormQuery):
    """The parameters of a dataset's URL, which give the view of its page. The document is the same for every view."""

    v: Annotated[str | None, Field(max_length=200, description="Of the page: the field that is drawn")] = None
    t: Annotated[str | None, Field(max_length=100, description="Of the page: the time that is drawn")] = None
    z: Annotated[str | None, Field(max_length=200, description="Of the page: the level that is drawn")] = None
    subset: Annotated[
        str | None,
        BeforeValidator(lambda given: ",".join(filter(None, given)) if isinstance(given, list) else given),
        Field(max_length=500, description="Of the page: axis(value) of each other axis"),
    ] = None
    at: Annotated[str | None, Field(max_length=60, description="Of the page: the place of the plot, lon,lat")] = None
    bbox: Annotated[str | None, Field(max_length=100, description="Of the page: the part of the map, west,south,east,north")] = None
    map: Annotated[Literal["world", "north", "south", ""] | None, Field(description="Of the page: a map around a pole")] = None
    look: Annotated[str | None, Field(max_length=40, description="Of the page: the palette of the map, such as viridis")] = None
    range: Annotated[str | None, Field(max_length=60, description="Of the page: low,high of the colours; or auto")] = None


class DiffQuery(incoming.Model):
    """The parameters of ``GET /datasets/{dataset_id}/diff``."""

    old: Annotated[incoming.Ref, Field(alias="from", description="The older version: its id, a tag or latest")]
    new: Annotated[incoming.Ref, Field(alias="to", description="The newer version: its id, a tag or latest")] = "latest"


class DeleteQuery(incoming.Model):
    """The parameters of ``DELETE /datasets/{dataset_id}``."""

    purge: bool = False


class ChangesQuery(incoming.Model):
    """The parameters of ``GET /changes``."""

    cursor: incoming.Cursor | None = None
    limit: incoming.Limit = 100
    wait: Annotated[float, Field(ge=0, le=60, description="Seconds to wait for a change when there is none yet")] = 0
    dataset_id: Annotated[str | None, Field(max_length=64)] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Datasets(parts)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, tag: str, **description: Any) -> None:
        router.add_api_route(template, handler, methods=[method], summary=summary, tags=[tag], **described(template, **description))

    add("GET", "/datasets", face.datasets, "Datasets", "Datasets", query=DatasetsQuery, schema=documents.Listing[DatasetSummary])
    add(
        "GET",
        "/datasets/{dataset_id}",
        face.dataset,
        "One dataset",
        "Datasets",
        query=ViewQuery,
        statuses=(*READ, 406),
        schema=DatasetDetail,
        media_types=("application/json", "text/html"),
    )
    add(
        "GET",
        "/datasets/{dataset_id}/versions",
        face.versions,
        "Its versions, newest first",
        "Datasets",
        query=PageQuery,
        schema=documents.Listing[Version],
    )
    add(
        "GET",
        "/datasets/{dataset_id}/citation",
        face.citation,
        "How to cite it",
        "Datasets",
        schema=Citation,
    )
    add("GET", "/datasets/{dataset_id}/versions/{ref}", face.version, "One version", "Datasets", schema=Version)
    add(
        "GET",
        "/datasets/{dataset_id}/diff",
        face.diff,
        "What changed from one version to another",
        "Datasets",
        query=DiffQuery,
        statuses=(*READ, 413),
        schema=VersionDiff,
    )
    add(
        "PATCH",
        "/datasets/{dataset_id}",
        face.describe,
        "Set its texts; null resets a text to that of the template or the data",
        "Datasets",
        body=TextChanges,
        statuses=WRITE,
        schema=DatasetDetail,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/publish",
        face.publish,
        "Publish its head, or the named version, on every face",
        "Datasets",
        body=PublishRequest,
        body_required=False,
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/unpublish",
        face.unpublish,
        "Remove it from every face",
        "Datasets",
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/restore",
        face.restore,
        "Restore the newest deleted dataset with that id, unpublished",
        "Datasets",
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/refresh",
        face.refresh,
        "Update its texts from its template; texts that were set are kept",
        "Datasets",
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/rollback",
        face.rollback,
        "Go back to a version; later versions stay listed",
        "Datasets",
        body=RollbackRequest,
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "PUT",
        "/datasets/{dataset_id}/tags/{tag}",
        face.tag,
        "Name a version",
        "Datasets",
        body=TagRequest,
        body_required=False,
        statuses=WRITE,
        schema=Version,
    )
    add(
        "DELETE",
        "/datasets/{dataset_id}/tags/{tag}",
        face.untag,
        "Remove a tag, but keep the version",
        "Datasets",
        statuses=WRITE,
        schema=Version,
    )
    add(
        "GET",
        "/changes",
        face.changes,
        "The changes that readers could see, oldest first",
        "Datasets",
        query=ChangesQuery,
        statuses=(*READ, 410),
        schema=ChangeList,
        media_types=(negotiation.JSON, streams.MEDIA_TYPE),
    )
    add("DELETE", "/datasets/{dataset_id}", face.delete, "Delete it", "Datasets", query=DeleteQuery, statuses=WRITE)
    return router


class _Feed:
    """The feed as many streams follow it: those that wait at its end ask the catalog once together."""

    def __init__(self, service: Keeps) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._end: tuple[str | None, ChangePage, float] | None = None

    async def after(self, cursor: str | None) -> ChangePage:
        """Return the changes after *cursor*, as they were at most ``_CHANGES_POLL_S`` ago."""
        async with self._lock:
            if self._end is not None and self._end[0] == cursor and time.monotonic() - self._end[2] < _CHANGES_POLL_S:
                return self._end[1]
            page = await asyncio.to_thread(self._service.changes, cursor=cursor)
            if not page.items:
                self._end = cursor, page, time.monotonic()
            return page


class _Datasets:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._service: Keeps = parts.service
        self._url = parts.public_url
        self._diffs = asyncio.Semaphore(_DIFFS)
        self._feed = _Feed(self._service)

    def datasets(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], DatasetsQuery)
        if asked.publication != "published":
            require(request, "ingest")
        sees = "" if asked.publication == "published" else " ".join(caller_of(request).datasets)
        tag = replies.etag_of_list(self._service.generation(), request, f"json {sees}", self._url)

        def build() -> bytes:
            filters = asked.model_dump(exclude_none=True, exclude={"bbox"})
            if asked.bbox is not None:
                filters["bbox"] = tuple(float(part) for part in asked.bbox.split(","))
            page = self._service.datasets(**filters)
            # A key for some datasets only sees unpublished ones among those. Pages can then be shorter, and are not counted.
            seen = [shown for shown in page.items if shown.published or sees_unpublished(request, shown.texts.dataset_id)]
            matched = page.matched if asked.publication == "published" or caller_of(request).datasets == ("*",) else None
            items = [documents.summary(shown, self._url) for shown in seen]
            links = replies.page_links(f"{self._url}/datasets", request, page.next)
            listing = documents.listing("DatasetList", items, links, matched=matched, damaged=page.damaged)
            return replies.dumps(listing)

        return replies.reply(request, build, tag=tag)

    def dataset(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], ViewQuery, lists=("subset",))
        form = negotiation.form(request, asked.f)
        shown = self._shown(request)
        # A caller that may ingest also sees versions that were never published, so its document has another ETag.
        more = self._of_page(shown, dated=asked.t is not None) if form == "html" else ()
        # The template is not in the catalog, and the time of the next run passes without a commit.
        followed = self._service.followed(shown.texts.dataset_id, shown.source_dataset_id)
        tag = replies.etag_of_dataset(shown, request, form, self._url, _sees_all(request), followed.model_dump_json(), *more)

        def build() -> bytes:
            versions = self._versions(request, shown, present.NEWEST)[0]
            detail = documents.detail(shown, self._url, versions=versions, sync=followed)
            if form == "html":
                # A form sends its empty fields too.
                return dataset_page.page(
                    self._parts,
                    detail,
                    shown,
                    View(**{name: value or None for name, value in asked.model_dump(exclude={"f"}).items()}),
                )
            return detail.model_dump_json().encode()

        is_page = form == "html"
        return replies.reply(
            request,
            build,
            media_type=negotiation.HTML if is_page else negotiation.JSON,
            tag=tag,
            varies=("Accept",),
            headers=replies.versioned(shown) | (replies.PAGE_HEADERS if is_page else {}),
        )

    def citation(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._shown(request)
        tag = replies.etag_of(shown, request, "json", self._url)

        def build() -> bytes:
            detail = documents.detail(shown, self._url, versions=())
            address = f"{self._url}/datasets/{shown.texts.dataset_id}@{shown.version.version_id}"
            found = dataset_page.cite(detail, shown, self._parts.title, address)
            return replies.dumps({"text": found["own"] or found["text"], "bibtex": found["bibtex"]})

        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def versions(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], PageQuery)
        shown = self._shown(request)
        tag = replies.etag_of_list(self._service.generation(), request, f"json {_sees_all(request)}", self._url)

        def build() -> bytes:
            items, following = self._versions(request, shown, asked.limit, _place(asked.cursor))
            path = f"/datasets/{shown.texts.dataset_id}/versions"
            return replies.dumps(
                documents.listing("VersionList", items, replies.page_links(f"{self._url}{path}", request, following))
            )

        return replies.reply(request, build, tag=tag)

    def version(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset_id, ref = request.path_params["dataset_id"].partition("@")[0], request.path_params["ref"]
        shown = self._service.shown(f"{dataset_id}@{ref}", unpublished=_sees_all(request))
        found = present.one_version(self._service, shown, self._url)
        tag = replies.etag_of(shown, request, "json", self._url, found.state)
        return replies.reply(request, lambda: found.model_dump_json().encode(), tag=tag, headers=replies.versioned(shown))

    async def diff(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], DiffQuery)
        dataset_id = _plain(request)
        sees_all = _sees_all(request)
        until = time.monotonic() + _DIFF_S

        def deadline() -> None:
            if time.monotonic() > until:
                raise no_place()

        def act() -> Response:
            old, new = (self._service.shown(f"{dataset_id}@{ref}", unpublished=sees_all) for ref in (asked.old, asked.new))
            most = self._parts.limits.get("download_cells")

            def build() -> bytes:
                found = self._service.diff(
                    dataset_id,
                    old.version.version_id,
                    new.version.version_id,
                    most_cells=most,
                    unpublished=sees_all,
                    deadline=deadline,
                )
                return replies.dumps(diff.document(*found))

            # Versions never change, so neither does their difference. But a tag in the URL can move.
            tag = replies.etag_of(new, request, "json", self._url, old.version.version_id)
            return replies.reply(request, build, tag=tag)

        try:
            await asyncio.wait_for(self._diffs.acquire(), _DIFF_S / 3)
        except TimeoutError:
            raise no_place() from None
        try:
            return await asyncio.to_thread(act)
        finally:
            self._diffs.release()

    def _versions(
        self, request: Request, shown: PublishedView, limit: int, after: tuple[int, str] | None = None
    ) -> tuple[list[Version], str | None]:
        """Return one page of versions and its next cursor. Only callers that may ingest see versions that were never published."""
        found = self._service.versions(shown.texts.dataset_id, limit=limit + 1, after=after)
        page = found[:limit]
        seen = [each for each in page if each[0].shown_at is not None or _sees_all(request)]
        last = page[-1][0] if len(found) > limit else None
        following = cursors.write_place(last.seq, last.version_id) if last else None
        return [self._version_document(shown, state, stored) for state, stored in seen], following

    def _version_document(self, shown: PublishedView, state: VersionState, stored: str) -> Version:
        return present.version(shown, state, stored, self._url)

    async def describe(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, TextChanges)
        dataset_id = _plain(request)

        def act() -> bytes:
            if_match = self._if_match(request, dataset_id)
            self._service.describe(dataset_id, if_match=if_match, **asked.values())
            return present.detail(self._service, dataset_id, self._url).model_dump_json().encode()

        return replies.fresh(await asyncio.to_thread(act))

    async def publish(self, request: Request) -> Response:
        asked = await incoming.body(request, PublishRequest, may_be_empty=True)
        return await self._written(request, lambda dataset_id: self._service.publish(dataset_id, version=asked.version))

    async def rollback(self, request: Request) -> Response:
        asked = await incoming.body(request, RollbackRequest)
        return await self._written(request, lambda dataset_id: self._service.rollback(dataset_id, to=asked.to))

    async def tag(self, request: Request) -> Response:
        asked, name = await incoming.body(request, TagRequest, may_be_empty=True), request.path_params["tag"]
        return await self._tagged(
            request, lambda dataset_id: self._service.tag(dataset_id, name, version=asked.version, force=asked.force)
        )

    async def untag(self, request: Request) -> Response:
        await incoming.body(request, incoming.NoParameters, may_be_empty=True)
        name = request.path_params["tag"]
        return await self._tagged(request, lambda dataset_id: self._service.untag(dataset_id, name))

    async def _tagged(self, request: Request, write: Callable[[str], str]) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset_id = _plain(request)

        def act() -> bytes:
            self._if_match(request, dataset_id)
            shown = self._service.shown(f"{dataset_id}@{write(dataset_id)}", unpublished=True)
            return present.one_version(self._service, shown, self._url).model_dump_json().encode()

        return replies.fresh(await asyncio.to_thread(act))

    async def changes(self, request: Request) -> Response:
        try:
            return await self._changes(request)
        except CursorExpired as exc:
            begin = (("datasets", "The datasets"), ("changes", "The changes that are kept"))
            links = [
                documents.Link(href=f"{self._url}/{path}", rel=path, title=title, type=negotiation.JSON) for path, title in begin
            ]
            exc.members = {**exc.members, "links": [each.model_dump() for each in links]}
            raise

    async def _changes(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], ChangesQuery)
        if negotiation.preferred(request, {negotiation.JSON: "json", streams.MEDIA_TYPE: "events"}) == "events":
            return await self._changes_as_events(request, asked)
        until = time.monotonic() + asked.wait

        def page(cursor: str | None) -> tuple[ChangePage, list[Change]]:
            found = self._service.changes(cursor=cursor, dataset_id=asked.dataset_id, limit=asked.limit)
            return found, self._seen(found.items)

        found, seen = await asyncio.to_thread(page, asked.cursor)
        while not seen and time.monotonic() < until and not streams.STOPPING.is_set() and not await request.is_disconnected():
            if found.items or (await self._feed.after(found.next)).items:
                found, seen = await asyncio.to_thread(page, found.next)
            else:
                await asyncio.sleep(_CHANGES_POLL_S)
        items = [present.change(each, self._url) for each in seen]
        listing = replies.dumps({"kind": "ChangeList", "items": items, "next_cursor": found.next})
        return replies.fresh(listing, headers={"Vary": "Accept"})

    def _seen(self, changes: Sequence[Change]) -> list[Change]:
        """Return the changes of datasets that the caller could see then and may see now.

        Of a dataset whose record was purged nobody knows who may see it now. Only its removal is told, for those who follow.
        """
        seen = [each for each in changes if sees(each)]
        asked = {(each.dataset_id, each.type == "removed") for each in seen}
        visible = {each for each in asked if self._service.visible(each[0], if_none=each[1])}
        return [each for each in seen if (each.dataset_id, each.type == "removed") in visible]

    async def _changes_as_events(self, request: Request, asked: ChangesQuery) -> Response:
        if unused := sorted({"wait", "limit"} & asked.model_fields_set):
            raise InvalidRequest(f"{unused[0]} is for the list: events come as they happen.")
        cursor = request.headers.get("last-event-id") or asked.cursor
        first = await self._feed.after(cursor)  # here, so that a cursor that is wrong or too old is a problem and not a stream
        return streams.streaming(self._events(first, asked.dataset_id))

    async def _events(self, page: ChangePage, dataset_id: str | None) -> AsyncIterator[bytes]:
        """Yield each change as an event whose id is its cursor: who comes back with it receives what came later."""
        spoke = time.monotonic()
        yield streams.COMMENT
        while not streams.STOPPING.is_set():
            asked = [each for each in page.items if dataset_id in (None, each.dataset_id)]
            for each in await asyncio.to_thread(self._seen, asked) if asked else ():
                yield streams.event("change", each.cursor, present.change(each, self._url))
                spoke = time.monotonic()
            if not page.items:
                await asyncio.sleep(_CHANGES_POLL_S)
            if time.monotonic() - spoke > streams.COMMENT_S:
                yield streams.COMMENT
                spoke = time.monotonic()
            page = await self._feed.after(page.next)

    async def unpublish(self, request: Request) -> Response:
        await incoming.body(request, incoming.NoParameters, may_be_empty=True)
        return await self._written(request, self._service.unpublish)

    async def restore(self, request: Request) -> Response:
        await incoming.body(request, incoming.NoParameters, may_be_empty=True)
        return await self._written(request, self._service.restore)

    async def refresh(self, request: Request) -> Response:
        await incoming.body(request, incoming.NoParameters, may_be_empty=True)
        return await self._written(request, self._service.refresh)

    async def _written(self, request: Request, write: Callable[[str], object]) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset_id = _plain(request)

        def act() -> bytes:
            self._if_match(request, dataset_id)
            write(dataset_id)
            shown = self._service.shown(dataset_id, unpublished=True)
            return documents.summary(shown, self._url).model_dump_json().encode()

        return replies.fresh(await asyncio.to_thread(act))

    async def delete(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], DeleteQuery)
        dataset_id = _plain(request)

        def act() -> bytes:
            if_match = self._if_match(request, dataset_id)
            record = self._service.delete(dataset_id, if_match=if_match, purge=asked.purge)
            return replies.dumps({"dataset_id": dataset_id, "status": "deleted", "record_version": record.version})

        return replies.fresh(await asyncio.to_thread(act))

    def _if_match(self, request: Request, dataset_id: str) -> int | None:
        """Return the version of the record in ``If-Match``, or ``None`` without the header.

        Raises PreconditionFailed if it is not the current version.
        """
        if request.headers.get("if-match") is None:
            return None
        shown = self._service.shown(dataset_id, unpublished=True)
        replies.check_if_match(request, shown)
        return shown.record_version

    def _of_page(self, shown: PublishedView, *, dated: bool) -> tuple[object, ...]:
        """Return what the page depends on besides the dataset: its areas, and the minute while some step is to come."""
        return tuple(self._parts.service.zone_sets()), None if dated else moment(shown.description)

    def _shown(self, request: Request) -> PublishedView:
        return self._service.shown(request.path_params["dataset_id"], unpublished=_sees_all(request))


def _sees_all(request: Request) -> bool:
    """Return whether the caller may see unpublished parts of the dataset in this URL."""
    return sees_unpublished(request, request.path_params["dataset_id"].partition("@")[0])


def _plain(request: Request) -> str:
    """Return the dataset id of a write, which is never pinned."""
    dataset_id: str = request.path_params["dataset_id"]
    if "@" in dataset_id:
        raise NotFound("A version cannot be changed; name only the dataset", what="dataset")
    return dataset_id


def _place(cursor: str | None) -> tuple[int, str] | None:
    try:
        return None if cursor is None else cursors.read_place(cursor)
    except ValueError as exc:
        raise InvalidCursor("The cursor does not belong to this list") from exc
