"""The verbs of datasets for the instance in a folder, in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cubeport.documents import native
from cubeport.errors import CubeportError
from cubeport.service.state import DatasetState

if TYPE_CHECKING:
    from cubeport.cli._verbs import Document, Listener
    from cubeport.service.ingestions import FileOptions, IngestionRequest, Work
    from cubeport.service.service import Service

_FOLLOW_S = 0.3
"""How often the state of an ingestion that another process runs is read, in seconds."""


class InstanceVerbs:
    """:class:`cubeport.cli._verbs.Verbs` of a service in this process."""

    records = None

    def __init__(self, service: Service) -> None:
        self._service = service
        self._url = service.public_url

    # --- reading ---

    def datasets(self, **query: Any) -> Document:
        page = self._service.datasets(**{"publication": "any", **query})
        items = [native.summary(each, self._url) for each in page.items]
        return native.listing("DatasetList", items, (), damaged=page.damaged) | ({"next": page.next} if page.next else {})

    def dataset(self, ref: str) -> Document:
        from cubeport.service import present

        return present.detail(self._service, ref, self._url).model_dump(mode="json")

    def versions(self, dataset_id: str) -> list[Document]:
        from cubeport.service import present

        shown = self._service.shown(dataset_id, unpublished=True)
        found = self._service.versions(dataset_id, limit=1000)
        return [present.version(shown, state, stored, self._url).model_dump(mode="json") for state, stored in found]

    def diff(self, dataset_id: str, old: str, new: str) -> Document:
        from cubeport.service import diff

        return diff.document(*self._service.diff(dataset_id, old, new))

    def changes(self, *, cursor: str | None, dataset_id: str | None, limit: int) -> Document:
        from cubeport.service import present

        page = self._service.changes(cursor=cursor, dataset_id=dataset_id, limit=limit)
        items = [present.change(each, self._url) for each in page.items]
        return {"kind": "ChangeList", "items": items, "next_cursor": page.next}

    def usage(self) -> Document:
        from cubeport.service import retain

        return retain.document(self._service.usage())

    def templates(self) -> Document:
        from cubeport.service import present

        items = [present.template(self._service, each) for _, each in sorted(self._service.templates().items())]
        return native.listing("DatasetTemplateList", items, ()) | {"problems": self._problems()}

    def extents(self) -> Document:
        from cubeport.service import present

        return native.listing("ExtentList", [present.extent(each) for _, each in sorted(self._service.extents().items())], ())

    # --- changing a dataset ---

    def describe(self, dataset_id: str, texts: Mapping[str, Any]) -> Document:
        self._service.describe(dataset_id, **texts)
        return self.dataset(dataset_id)

    def refresh(self, dataset_id: str) -> bool:
        before = self._service.dataset(dataset_id).record.version
        return self._service.refresh(dataset_id).version != before

    def publish(self, dataset_id: str, version: str | None) -> Document:
        self._service.publish(dataset_id, version=version)
        return self._summary(dataset_id)

    def unpublish(self, dataset_id: str) -> Document:
        self._service.unpublish(dataset_id)
        return self._summary(dataset_id)

    def rollback(self, dataset_id: str, to: str) -> Document:
        self._service.rollback(dataset_id, to=to)
        return self._summary(dataset_id)

    def tag(self, dataset_id: str, name: str, *, version: str, force: bool) -> Document:
        return self._version(dataset_id, self._service.tag(dataset_id, name, version=version, force=force))

    def untag(self, dataset_id: str, name: str) -> Document:
        return self._version(dataset_id, self._service.untag(dataset_id, name))

    def _version(self, dataset_id: str, version_id: str) -> Document:
        from cubeport.service import present

        shown = self._service.shown(f"{dataset_id}@{version_id}", unpublished=True)
        return present.one_version(self._service, shown, self._url).model_dump(mode="json")

    def state(self, dataset_id: str) -> Document:
        found = self._service.dataset(dataset_id)
        return {"dataset_id": found.state.texts.dataset_id, "status": "active", "record_version": found.record.version}

    def delete(self, dataset_id: str, *, purge: bool) -> Document:
        deleted = self._service.delete(dataset_id, purge=purge)
        return {"dataset_id": dataset_id, "status": "deleted", "record_version": deleted.version}

    def restore(self, dataset_id: str) -> Document:
        back = DatasetState.of(self._service.restore(dataset_id))  # the name may be the id of its record
        return self._summary(back.texts.dataset_id)

    def _summary(self, dataset_id: str) -> Document:
        return native.summary(self._service.shown(dataset_id, unpublished=True), self._url).model_dump(mode="json")

    # --- ingesting ---

    def ingest(self, request: Mapping[str, Any], files: Mapping[str, Any], listener: Listener | None) -> Document:
        return self._ingestion(self._service.ingest_here(*_checked(request, files), listener=listener))

    def accept(self, request: Mapping[str, Any]) -> Document:
        asked, _ = _checked(request, {})
        return self._ingestion(self._service.ingest(asked, waited_for=False))

    def ingestion(self, ingestion_id: str) -> Document:
        return self._ingestion(self._service.ingestion(ingestion_id))

    def ingestions(self, *, limit: int, cursor: str | None = None, **filters: Any) -> Document:
        page = self._service.ingestions(limit=limit, cursor=cursor, **filters)
        items = [self._ingestion(each) for each in page.items]
        return {"kind": "IngestionList", "items": items} | ({"next": page.next} if page.next else {})

    def cancel(self, ingestion_id: str) -> Document:
        return self._ingestion(self._service.cancel(ingestion_id))

    def retry(self, ingestion_id: str) -> Document:
        return self._ingestion(self._service.retry(ingestion_id))

    def follow(self, ingestion_id: str, listener: Listener | None) -> Document:
        seen = -1
        while True:
            found, number = self._service.follow(ingestion_id)
            if listener is not None and number != seen:
                listener(found.progress.phase, found.progress.done, found.progress.total)
            if found.finished:
                return self._ingestion(found)
            seen = number
            time.sleep(_FOLLOW_S)

    def _ingestion(self, done: Work) -> Document:
        from cubeport.service import present

        return present.ingestion(self._service, done, self._url)

    def sync(
        self, dataset_id: str, *, end: str | None, publish: bool | None, prefer_zarr: bool | None, listener: Listener | None
    ) -> Document:
        from cubeport.service import present

        done = self._service.sync(dataset_id, end=end, publish=publish, prefer_zarr=prefer_zarr, listener=listener)
        if done.ingestion is not None and done.ingestion.error is not None:
            raise CubeportError.from_mapping(done.ingestion.error)
        return present.synced(self._service, done, self._url)

    def sync_plan(self, dataset_id: str, *, end: str | None) -> Document:
        return self._service.sync_plan(dataset_id, end=end).model_dump(mode="json")

    def followed(self) -> list[str]:
        templates = self._service.templates()
        followed, derived = [], []
        for name in self._service.dataset_ids():
            state = self._service.dataset(name).state
            template = templates.get(state.source_dataset_id or "")
            if template is not None and template.sync.kind != "static":
                followed.append(name)
            elif state.derived is not None:
                derived.append(name)
        return [*followed, *self._service.inputs_first(derived)]

    def due(self) -> list[str]:
        return self._service.due()

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
        done = self._service.derive(
            recipe, inputs, dataset_id=dataset_id, params=params, title=title, publish=publish, listener=listener
        )
        return self._ingestion(done)

    def derived(self) -> Document:
        return {"kind": "DerivedList", "items": self._service.derived()}

    def recipes(self) -> Document:
        return {"kind": "RecipeList", "items": self._service.recipes()}

    # --- zone sets ---

    def zone_sets(self) -> Document:
        from cubeport.service import present

        items = [present.zone_set(each, self._url) for each in self._service.zone_sets().values()]
        problems = [each for each in self._problems() if each.startswith("zones/")]
        return native.listing("ZoneSetList", items, ()) | {"problems": problems}

    def zone_set(self, zone_set_id: str) -> Document:
        return self._service.zone_set(zone_set_id).document()

    def put_zone_set(
        self, zone_set_id: str, document: Mapping[str, Any], *, id_property: str | None, name_property: str | None
    ) -> Document:
        from cubeport.service import present

        found = self._service.put_zone_set(zone_set_id, document, id_property=id_property, name_property=name_property)
        return present.zone_set(found, self._url).model_dump(mode="json")

    def remove_zone_set(self, zone_set_id: str) -> None:
        self._service.remove_zone_set(zone_set_id)

    def _problems(self) -> list[str]:
        return [problem for each in self._service.broken() for problem in each.problems]


def _checked(request: Mapping[str, Any], files: Mapping[str, Any]) -> tuple[IngestionRequest, FileOptions]:
    """Return a request and its options for files as values. Raises InvalidRequest with every problem."""
    from pydantic import ValidationError

    from cubeport.catalog.models import invalid
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    try:
        checked = IngestionRequest.model_validate(request)
    except ValidationError as exc:
        raise invalid("request", exc, IngestionRequest) from None
    try:
        return checked, FileOptions.model_validate(files)
    except ValidationError as exc:
        raise invalid("request", exc, FileOptions) from None
