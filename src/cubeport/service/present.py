"""The documents of the service, which are the same over HTTP and with ``--json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.documents import native
from cubeport.documents.texts import PublishedView
from cubeport.errors import Corrupt, NewerModel, NotFound
from cubeport.service.ingestions import Ingestion, Scope, TableJob, Work
from cubeport.service.state import VersionState, named
from cubeport.service.sync import Synced
from cubeport.service.withheld import why_not_again

if TYPE_CHECKING:
    from cubeport.cubes.zones import ZoneSet
    from cubeport.service.changes import Change
    from cubeport.service.templates import DatasetTemplate, Extent

_log = logging.getLogger(__name__)

NEWEST = 20
"""How many versions the document of a dataset lists."""


class Shows(Protocol):
    """The part of the service that the documents need."""

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView: ...

    def versions(
        self, dataset_id: str, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]: ...

    def followed(self, dataset_id: str, source_dataset_id: str | None) -> native.Sync: ...


class _Page(Protocol):
    @property
    def items(self) -> Sequence[PublishedView]: ...


class Lists(Protocol):
    """The part of the service that the document of a template needs."""

    def datasets(self, **filters: Any) -> _Page: ...


def detail(service: Shows, ref: str, public_url: str) -> native.DatasetDetail:
    """Return the dataset ``id`` or ``id@ref``, published or not, with its newest versions. Raises NotFound, VersionRemoved."""
    shown = service.shown(ref, unpublished=True)
    stored = service.versions(shown.texts.dataset_id, limit=NEWEST)
    newest = [version(shown, state, kept, public_url) for state, kept in stored]
    followed = service.followed(shown.texts.dataset_id, shown.source_dataset_id)
    return native.detail(shown, public_url, versions=newest, sync=followed)


def one_version(service: Shows, shown: PublishedView, public_url: str) -> native.Version:
    """Return the document of the version that *shown* shows. Raises NotFound."""
    after: tuple[int, str] | None = None
    while page := service.versions(shown.texts.dataset_id, limit=1000, after=after):
        for state, stored in page:
            if state.version_id == shown.version.version_id:
                return version(shown, state, stored, public_url)
        after = (page[-1][0].seq, page[-1][0].version_id)
    raise NotFound("There is no such version", what="version")


def version(shown: PublishedView, state: VersionState, stored: str, public_url: str) -> native.Version:
    """Return the document of one version of the dataset of *shown*."""
    return native.version(
        state.model_dump(mode="json"),
        dataset_id=shown.texts.dataset_id,
        public_url=public_url,
        state=named(stored, state.version_id, latest=shown.latest, head=shown.head),
        tags=[tag for tag, tagged in shown.tags.items() if tagged == state.version_id],
        published=shown.published and state.shown_at is not None,
    )


def ingestion(service: Shows, done: Work, public_url: str) -> dict[str, Any]:
    """Return the Ingestion document of a job. ``dataset`` is the summary of the resulting dataset, published or not, while it
    exists and can be read. A table makes none; its document has the same members.
    """
    if isinstance(done, TableJob):
        return _table(done, public_url)
    document = done.model_dump(mode="json", exclude={"request", "options", "waited_for", "created_by", "asker", "until", "revised"})
    document |= {"dataset": None, "links": []}
    if done.status == "planned":
        return document | {"ingestion_id": None}
    document["links"].append(_link(f"{public_url}/ingestions/{done.ingestion_id}", "self", "This ingestion"))
    if done.status == "completed" and (shown := _made(service, done)) is not None:
        document["dataset"] = native.summary(shown, public_url).model_dump(mode="json")
        document["links"].append(_link(f"{public_url}/datasets/{done.dataset_id}", "dataset", "What it made"))
    document["links"] += _again(done, public_url)
    return document


def _again(done: Work, public_url: str) -> list[dict[str, str]]:
    """Return the link that sends the request of a failed or cancelled job again; none for one that would be refused."""
    if done.status not in ("failed", "cancelled") or why_not_again(done) is not None:
        return []
    return [_link(f"{public_url}/ingestions/{done.ingestion_id}/retry", "retry", "Send the request again (POST)")]


def _table(done: TableJob, public_url: str) -> dict[str, Any]:
    links = [_link(f"{public_url}/ingestions/{done.ingestion_id}", "self", "This job")]
    if done.status == "completed":
        links.append(_link(f"{public_url}/ogcapi/jobs/{done.ingestion_id}/results", "results", "The table"))
    links += _again(done, public_url)
    return {
        **done.model_dump(mode="json", exclude={"waited_for", "created_by", "asker", "parameters", "form", "as_document", "title"}),
        "dataset": None,
        "action": "table",
        "reused": False,
        "changed": [],
        "request_scope": Scope().model_dump(mode="json"),
        "coverage": None,
        "plan": None,
        "links": links,
    }


def synced(service: Shows, done: Synced, public_url: str) -> dict[str, Any]:
    """Return the SyncResponse document. ``dataset`` is the current dataset."""
    ran = done.ingestion
    message = done.detail.message
    if ran is not None and ran.status == "completed":
        message = "The source has nothing new." if ran.reused else "The dataset is up to its source."
    try:
        dataset = detail(service, done.detail.dataset_id, public_url).model_dump(mode="json")
    except NotFound:  # deleted meanwhile
        dataset = None
    return {
        "sync_id": ran.ingestion_id if ran is not None else None,
        "status": done.status,
        "message": message,
        "dataset": dataset,
        "sync_detail": done.detail.model_dump(mode="json"),
    }


def _made(service: Shows, done: Ingestion) -> PublishedView | None:
    try:
        return service.shown(done.dataset_id, unpublished=True)
    except NotFound:  # deleted or removed since: the document is still valid without it
        return None
    except (Corrupt, NewerModel) as exc:  # its own address says so; a list of jobs is the last thing that should fail now
        _log.error("the job %s is shown without its dataset, because it cannot be read: %s", done.ingestion_id, exc)
        return None


def template(service: Lists, found: DatasetTemplate) -> native.TemplateDocument:
    """Return the document of a template, with the published datasets that were made from it."""
    made = service.datasets(source_dataset_id=found.id, limit=100)
    return native.TemplateDocument(
        **found.model_dump(include=_TEMPLATE_FIELDS),
        variables=tuple(each.model_dump(exclude_none=True) for each in found.variables),
        extents=found.extents.model_dump(mode="json", exclude_none=True),
        sync=native.Sync(**found.sync.model_dump(include={"kind", "execution", "schedule"})),
        source=found.source.name,
        source_url=found.source.homepage,
        source_kind=found.source.kind,
        datasets=tuple(shown.texts.dataset_id for shown in made.items),
    )


_TEMPLATE_FIELDS = {
    "id", "title", "short_name", "description", "keywords", "units", "resolution", "period_type", "license", "render"
}  # fmt: skip


def extent(found: Extent) -> native.ExtentDocument:
    """Return the document of a named area."""
    return native.ExtentDocument(**found.model_dump(exclude={"country_code"}))


def zone_set(found: ZoneSet, public_url: str) -> native.ZoneSetSummary:
    """Return the summary of a zone set."""
    link = native.Link(
        href=f"{public_url}/zones/{found.id}", rel="self", title=found.title or found.id, type="application/geo+json"
    )
    return native.ZoneSetSummary(
        zone_set_id=found.id,
        title=found.title,
        description=found.description,
        license=found.license,
        zones=len(found.zones),
        bbox=found.bbox,
        digest=found.digest,
        links=(link,),
    )


def change(found: Change, public_url: str) -> dict[str, Any]:
    """Return the document of one change that readers could see."""
    names = ("cursor", "time", "type", "reason", "dataset_id", "version_id")
    return {**{name: getattr(found, name) for name in names}, "href": f"{public_url}/datasets/{found.dataset_id}"}


def _link(href: str, rel: str, title: str) -> dict[str, str]:
    return {"href": href, "rel": rel, "title": title, "type": "application/json"}
