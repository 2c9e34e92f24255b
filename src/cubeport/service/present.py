"""The documents of the service, which are the same over HTTP and with ``--json``."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from cubeport.documents import native
from cubeport.documents.texts import PublishedView
from cubeport.errors import NotFound
from cubeport.service.ingestions import Ingestion
from cubeport.service.state import VersionState
from cubeport.service.sync import Synced

NEWEST = 20
"""How many versions the document of a dataset lists."""


class Shows(Protocol):
    """The part of the service that the documents need."""

    def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView: ...

    def versions(
        self, dataset_id: str, *, limit: int = 100, after: tuple[int, str] | None = None
    ) -> list[tuple[VersionState, str]]: ...


def detail(service: Shows, dataset_id: str, public_url: str) -> native.DatasetDetail:
    """Return the dataset, published or not, with its newest versions. Raises NotFound, VersionRemoved."""
    shown = service.shown(dataset_id, unpublished=True)
    newest = [version(shown, state, stored, public_url) for state, stored in service.versions(dataset_id, limit=NEWEST)]
    return native.detail(shown, public_url, versions=newest)


def version(shown: PublishedView, state: VersionState, stored: str, public_url: str) -> native.Version:
    """Return the document of one version of the dataset of *shown*."""
    return native.version(
        state.model_dump(mode="json"),
        dataset_id=shown.texts.dataset_id,
        public_url=public_url,
        state=_pointed(shown, state.version_id, stored),
        tags=[tag for tag, named in shown.tags.items() if named == state.version_id],
        published=shown.published and state.shown_at is not None,
    )


def _pointed(shown: PublishedView, version_id: str, stored: str) -> Literal["latest", "head", "retained", "removed", "missing"]:
    if stored in ("removed", "freed"):
        return "removed"
    if stored == "missing":
        return "missing"
    return "latest" if version_id == shown.latest else "head" if version_id == shown.head else "retained"


def ingestion(service: Shows, done: Ingestion, public_url: str) -> dict[str, Any]:
    """Return the Ingestion document. ``dataset`` is the summary of the resulting dataset, published or not, while it exists."""
    document = done.model_dump(mode="json", exclude={"request", "options", "waited_for", "created_by", "asker", "until", "revised"})
    document |= {"dataset": None, "links": []}
    if done.status == "planned":
        return document | {"ingestion_id": None}
    document["links"].append(_link(f"{public_url}/ingestions/{done.ingestion_id}", "self", "This ingestion"))
    if done.status == "completed" and (shown := _made(service, done)) is not None:
        document["dataset"] = native.summary(shown, public_url).model_dump(mode="json")
        document["links"].append(_link(f"{public_url}/datasets/{done.dataset_id}", "dataset", "What it made"))
    return document


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


def _link(href: str, rel: str, title: str) -> dict[str, str]:
    return {"href": href, "rel": rel, "title": title, "type": "application/json"}
