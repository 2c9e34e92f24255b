"""The service's state as its documents say it: what HTTP answers and ``--json`` prints, the same for both."""

from __future__ import annotations

from typing import Any, Literal

from cubeport.documents import native
from cubeport.errors import NotFound
from cubeport.service.ingestions import Ingestion
from cubeport.service.service import Service
from cubeport.service.state import DatasetState, VersionState

NEWEST = 20
"""Versions in a dataset's own document."""


def detail(service: Service, ref: str, *, unpublished: bool = False) -> dict[str, Any]:
    """Return DatasetDetail. Raises NotFound, VersionRemoved."""
    shown = service.shown(ref, unpublished=unpublished)
    newest = versions(service, shown.texts.dataset_id, limit=NEWEST, unpublished=unpublished)
    document = native.detail(shown, service.public_url, versions=[native.Version.model_validate(each) for each in newest])
    return document.model_dump(mode="json", exclude_none=False)


def versions(
    service: Service,
    dataset_id: str,
    *,
    limit: int = 100,
    after: tuple[int, str] | None = None,
    unpublished: bool = True,
) -> list[dict[str, Any]]:
    """Return Versions, newest first; readers see those that were ever shown."""
    state = service.dataset(dataset_id).state
    return [
        version_document(service, state, version, stored)
        for version, stored in service.versions(dataset_id, limit=limit, after=after)
        if unpublished or version.shown_at is not None
    ]


def version_document(service: Service, state: DatasetState, version: VersionState, stored: str) -> dict[str, Any]:
    """Return one Version."""
    document = native.version(
        version.model_dump(mode="json"),
        dataset_id=state.texts.dataset_id,
        public_url=service.public_url,
        state=_pointed(state, version.version_id, stored),
        tags=[tag for tag, named in state.tags.items() if named == version.version_id],
        published=state.published,
    )
    return document.model_dump(mode="json")


def _pointed(state: DatasetState, version_id: str, stored: str) -> Literal["latest", "head", "retained", "removed"]:
    if stored == "removed":
        return "removed"
    return "latest" if version_id == state.latest else "head" if version_id == state.head else "retained"


def ingestion(service: Service, done: Ingestion) -> dict[str, Any]:
    """Return the Ingestion document; ``dataset`` is the summary once there is one, published or not."""
    document = done.model_dump(mode="json", exclude={"request", "options", "waited_for", "created_by", "dataset_id"})
    document["dataset"] = None
    if done.status == "completed":
        try:
            document["dataset"] = native.summary(service.shown(done.dataset_id, unpublished=True), service.public_url).model_dump(
                mode="json"
            )
        except NotFound:
            document["dataset"] = None  # deleted since
    href = f"{service.public_url}/ingestions/{done.ingestion_id}"
    document["links"] = [{"href": href, "rel": "self", "type": "application/json", "title": "This ingestion"}]
    return document
