"""What the commands of datasets ask: of the instance in a folder, or with ``--url`` of a service elsewhere.

Both answer with the documents that HTTP gives, so a command prints the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cubeport.errors import AmbiguousId

type Document = dict[str, Any]
type Listener = Callable[[str, int, int], None]
"""Called with the phase, how much of it is done, and of how much."""


class RecordsAfar(Protocol):
    """The records of a service elsewhere, as ``cubeport.client.Records`` reads them."""

    @property
    def page(self) -> Callable[..., Document]: ...

    @property
    def search(self) -> Callable[..., Iterator[Mapping[str, Any]]]: ...

    def get(self, name: str) -> Mapping[str, Any]: ...

    def history(self, name: str) -> Sequence[Mapping[str, Any]]: ...

    def read(self, name: str, artifact: str | None = None) -> bytes: ...

    def fetch(self, name: str, artifact: str | None = None) -> tuple[Mapping[str, Any], bytes]: ...


class Verbs(Protocol):
    """The verbs of datasets. All raise what the service raises."""

    @property
    def records(self) -> RecordsAfar | None:
        """The records of a service elsewhere; ``None`` in a folder, whose catalog has them."""

    # --- reading ---

    def datasets(self, **query: Any) -> Document:
        """Return a ``DatasetList``; ``next`` is the cursor of the next page, if there is one.

        Without ``publication`` it has all datasets that the caller may see.
        """

    def dataset(self, ref: str) -> Document:
        """Return a dataset, published or not, with its newest versions."""

    def versions(self, dataset_id: str) -> list[Document]:
        """Return the versions, newest first."""

    def diff(self, dataset_id: str, old: str, new: str) -> Document:
        """Return the changes between two versions."""

    def changes(self, *, cursor: str | None, dataset_id: str | None, limit: int) -> Document:
        """Return one page of changes."""

    def usage(self) -> Document:
        """Return the bytes of each version."""

    def templates(self) -> Document:
        """Return the dataset templates; ``problems`` has those that are broken, for callers who may see them."""

    def extents(self) -> Document:
        """Return the named areas."""

    # --- changing a dataset ---

    def describe(self, dataset_id: str, texts: Mapping[str, Any]) -> Document:
        """Set texts; return the dataset."""

    def refresh(self, dataset_id: str) -> bool:
        """Update the texts from the template; return whether something changed."""

    def publish(self, dataset_id: str, version: str | None) -> Document:
        """Publish a version, or the head; return the summary."""

    def unpublish(self, dataset_id: str) -> Document:
        """Unpublish; return the summary."""

    def rollback(self, dataset_id: str, to: str) -> Document:
        """Go back to a version; return the summary."""

    def tag(self, dataset_id: str, name: str, *, version: str, force: bool) -> Document:
        """Name a version; return its document."""

    def untag(self, dataset_id: str, name: str) -> Document:
        """Remove a tag; return the document of the version that had it."""

    def state(self, dataset_id: str) -> Document:
        """Return ``dataset_id, status, record_version`` of a dataset that is not deleted."""

    def delete(self, dataset_id: str, *, purge: bool) -> Document:
        """Delete; return ``dataset_id, status, record_version``."""

    def restore(self, dataset_id: str) -> Document:
        """Restore; return the summary."""

    # --- ingesting ---

    def ingest(self, request: Mapping[str, Any], files: Mapping[str, Any], listener: Listener | None) -> Document:
        """Return the ingestion after it has ended. Its ``error`` says why it failed.

        Parameters
        ----------
        request
            Members of the body of ``POST /ingestions``; ``None`` is as if it were missing.
        files
            ``files``, paths of this machine, and the options of the command line for them.
        """

    def accept(self, request: Mapping[str, Any]) -> Document:
        """Accept an ingestion as a job of the service; return it at once."""

    def ingestion(self, ingestion_id: str) -> Document:
        """Return one ingestion."""

    def ingestions(self, *, limit: int, cursor: str | None = None, **filters: Any) -> Document:
        """Return an ``IngestionList``, newest first: of a ``dataset_id``, ``status``, ``kind``, ``since``; ``next`` as of
        :meth:`datasets`.
        """

    def cancel(self, ingestion_id: str) -> Document:
        """Cancel an ingestion."""

    def retry(self, ingestion_id: str) -> Document:
        """Accept the same request as a new ingestion."""

    def follow(self, ingestion_id: str, listener: Listener | None) -> Document:
        """Return the ingestion after it has ended."""

    def sync(
        self, dataset_id: str, *, end: str | None, publish: bool | None, prefer_zarr: bool | None, listener: Listener | None
    ) -> Document:
        """Update a dataset from its source; return a ``SyncResponse``."""

    def sync_plan(self, dataset_id: str, *, end: str | None) -> Document:
        """Return what a sync would do."""

    def followed(self) -> list[str]:
        """Return the datasets that follow a source, each after the datasets that it is derived from."""

    def due(self) -> list[str]:
        """Claim the scheduled syncs that are due."""

    def derive(
        self,
        recipe: str,
        inputs: Sequence[str],
        *,
        dataset_id: str,
        params: Mapping[str, Any],
        title: str | None,
        publish: bool,
        listener: Listener | None,
    ) -> Document:
        """Return the ingestion that made a dataset of others."""

    def derived(self) -> Document:
        """Return the derived datasets."""

    def recipes(self) -> Document:
        """Return the recipes."""

    # --- zone sets ---

    def zone_sets(self) -> Document:
        """Return the zone sets; ``problems`` as of :meth:`templates`."""

    def zone_set(self, zone_set_id: str) -> Document:
        """Return the zones of a set as GeoJSON."""

    def put_zone_set(
        self, zone_set_id: str, document: Mapping[str, Any], *, id_property: str | None, name_property: str | None
    ) -> Document:
        """Keep a zone set; return its summary."""

    def remove_zone_set(self, zone_set_id: str) -> None:
        """Remove a zone set."""


def whole_version(verbs: Verbs, dataset_id: str, name: str) -> str:
    """Return the version of a dataset whose id begins with *name* (at least 4 characters). A tag is returned unchanged. Raises
    AmbiguousId.
    """
    if not 4 <= len(name) < 32 or not set(name) <= set("0123456789abcdef"):
        return name
    versions = verbs.versions(dataset_id)
    if any(name in each["tags"] for each in versions):
        return name
    found = [each["version_id"] for each in versions if each["version_id"].startswith(name)]
    if len(found) > 1:
        raise AmbiguousId(f"{len(found)} versions of {dataset_id} begin with {name}.", next_step=f"cubeport versions {dataset_id}")
    return found[0] if found else name


def whole_ref(verbs: Verbs, ref: str) -> str:
    """Return ``id`` or ``id@version`` with the whole id of the version; see :func:`whole_version`."""
    name, at, version = ref.partition("@")
    return f"{name}@{whole_version(verbs, name, version)}" if at else name


def whole_ingestion(verbs: Verbs, name: str) -> str:
    """Return the id of the ingestion that begins with *name*, 4 characters or more. Raises AmbiguousId."""
    if len(name) == 32 or len(name) < 4:
        return name
    found: list[str] = []
    cursor = None
    while True:
        page = verbs.ingestions(limit=1000, cursor=cursor)
        found += [each["ingestion_id"] for each in page["items"] if each["ingestion_id"].startswith(name)]
        if (cursor := page.get("next")) is None:
            break
    if len(found) > 1:
        raise AmbiguousId(f"{len(found)} ingestions begin with {name}: {', '.join(found[:10])}", next_step="give more of the id")
    return found[0] if found else name
