"""The verbs of datasets for a service elsewhere, as the command line asks them with ``--url``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from cubeport.client._http import next_cursor
from cubeport.client.port import Port
from cubeport.client.records import Records
from cubeport.errors import Forbidden, InvalidRequest, Unauthorized

type Document = dict[str, Any]
type Listener = Callable[[str, int, int], None]


class PortVerbs:
    """The verbs of ``cubeport.cli`` over a :class:`Port`: each returns the document that the service answers with."""

    def __init__(self, port: Port) -> None:
        self._port = port

    @property
    def records(self) -> Records:
        """The records of the service."""
        return self._port.records

    # --- reading ---

    def datasets(self, **query: Any) -> Document:
        query = {name: value for name, value in query.items() if value is not None}
        if (box := query.get("bbox")) is not None:
            query["bbox"] = ",".join(repr(float(each)) for each in box)
        if "publication" in query:
            return _page(self._port.json("/datasets", **query))
        try:
            return _page(self._port.json("/datasets", **query, publication="any"))
        except (Unauthorized, Forbidden):
            return _page(self._port.json("/datasets", **query))  # only a key that may ingest sees the others

    def dataset(self, ref: str) -> Document:
        found: Document = self._port.json(f"/datasets/{ref}")
        return found

    def versions(self, dataset_id: str) -> list[Document]:
        found: list[Document] = self._port.whole(f"/datasets/{dataset_id}/versions")["items"]
        return found

    def diff(self, dataset_id: str, old: str, new: str) -> Document:
        found: Document = self._port.json(f"/datasets/{dataset_id}/diff", **{"from": old, "to": new})
        return found

    def changes(self, *, cursor: str | None, dataset_id: str | None, limit: int) -> Document:
        found: Document = self._port.json("/changes", cursor=cursor, dataset_id=dataset_id, limit=limit)
        return found

    def usage(self) -> Document:
        found: Document = self._port.json("/usage")
        return found

    def templates(self) -> Document:
        return {"problems": []} | self._port.whole("/dataset-templates")

    def extents(self) -> Document:
        return _page(self._port.json("/extent"))

    # --- changing a dataset ---

    def describe(self, dataset_id: str, texts: Mapping[str, Any]) -> Document:
        return self._sent("PATCH", dataset_id, "", texts)

    def refresh(self, dataset_id: str) -> bool:
        before = self.dataset(dataset_id)["record_version"]
        return bool(self._sent("POST", dataset_id, "/refresh")["record_version"] != before)

    def publish(self, dataset_id: str, version: str | None) -> Document:
        return self._sent("POST", dataset_id, "/publish", {"version": version} if version is not None else None)

    def unpublish(self, dataset_id: str) -> Document:
        return self._sent("POST", dataset_id, "/unpublish")

    def rollback(self, dataset_id: str, to: str) -> Document:
        return self._sent("POST", dataset_id, "/rollback", {"to": to})

    def tag(self, dataset_id: str, name: str, *, version: str, force: bool) -> Document:
        return self._sent("PUT", dataset_id, f"/tags/{name}", {"version": version, "force": force})

    def untag(self, dataset_id: str, name: str) -> Document:
        return self._sent("DELETE", dataset_id, f"/tags/{name}")

    def state(self, dataset_id: str) -> Document:
        found = self.dataset(dataset_id)
        return {"dataset_id": found["dataset_id"], "status": "active", "record_version": found["record_version"]}

    def delete(self, dataset_id: str, *, purge: bool) -> Document:
        return dict(self._port.delete(dataset_id, purge=purge))

    def restore(self, dataset_id: str) -> Document:
        return self._sent("POST", dataset_id, "/restore")

    def _sent(self, method: str, dataset_id: str, path: str, body: Mapping[str, Any] | None = None) -> Document:
        found: Document = self._port.send(method, f"/datasets/{dataset_id}{path}", body)
        return found

    # --- ingesting ---

    def ingest(self, request: Mapping[str, Any], files: Mapping[str, Any], listener: Listener | None) -> Document:
        asked = {name: value for name, value in request.items() if value is not None}
        asked |= {name: files[name] for name in ("attributes", "append_dim") if files.get(name)}
        paths = [Path(each) for each in files.get("files", ())]
        if folder := next((each for each in paths if each.is_dir()), None):
            raise InvalidRequest(
                f"{folder.name} is a folder, and only files can be sent.",
                next_step="ingest it in a folder of your own, then cubeport push ID --to URL",
            )
        if paths:
            sent = [self._port.upload(each, progress=listener) for each in paths]
            options = {name: files[name] for name in ("group", "filter_by_keys") if files.get(name)}
            asked["source"] = {"kind": "upload", "upload": sent, **options}
        return dict(self._port.begin(asked, progress=listener))

    def accept(self, request: Mapping[str, Any]) -> Document:
        return dict(self._port.accepted({name: value for name, value in request.items() if value is not None}))

    def ingestion(self, ingestion_id: str) -> Document:
        found: Document = self._port.json(f"/ingestions/{ingestion_id}")
        return found

    def ingestions(self, *, limit: int, cursor: str | None = None, **filters: Any) -> Document:
        found = _page(self._port.json("/ingestions", limit=limit, cursor=cursor, **filters))
        return {name: found[name] for name in ("kind", "items", "next") if name in found}

    def cancel(self, ingestion_id: str) -> Document:
        return dict(self._port.cancel(ingestion_id))

    def retry(self, ingestion_id: str) -> Document:
        return dict(self._port.retry(ingestion_id))

    def follow(self, ingestion_id: str, listener: Listener | None) -> Document:
        return dict(self._port.ended(ingestion_id, progress=listener))

    def sync(
        self, dataset_id: str, *, end: str | None, publish: bool | None, prefer_zarr: bool | None, listener: Listener | None
    ) -> Document:
        return dict(self._port.sync(dataset_id, end=end, publish=publish, prefer_zarr=prefer_zarr, progress=listener))

    def sync_plan(self, dataset_id: str, *, end: str | None) -> Document:
        found: Document = self._port.json(f"/sync/{dataset_id}/plan", end=end)
        return found

    def followed(self) -> list[str]:
        kinds = {each["id"]: each["sync"]["kind"] for each in self.templates()["items"]}
        datasets = self._port.whole("/datasets", publication="any")["items"]
        found = [each["dataset_id"] for each in datasets if kinds.get(each["source_dataset_id"], "static") != "static"]
        derived = {each["dataset_id"]: _inputs(each) for each in self.derived()["items"]}
        ordered = TopologicalSorter({name: inputs & derived.keys() - {name} for name, inputs in derived.items()}).static_order()
        return [*found, *ordered]

    def due(self) -> list[str]:
        raise InvalidRequest(
            "--due is for the machine of the instance; a service runs what is due itself.",
            next_step="cubeport sync --all --plan",
        )

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
        source = {"kind": "derived", "recipe": recipe, "inputs": list(inputs), "params": dict(params)}
        request = {"dataset_id": dataset_id, "source": source, "mode": "replace", "publish": publish}
        return self.ingest(request | ({"template": {"title": title}} if title is not None else {}), {}, listener)

    def derived(self) -> Document:
        found: Document = self._port.json("/derived")
        return found

    def recipes(self) -> Document:
        found: Document = self._port.json("/recipes")
        return found

    # --- zone sets ---

    def zone_sets(self) -> Document:
        return _page(self._port.json("/zones")) | {"problems": []}

    def zone_set(self, zone_set_id: str) -> Document:
        found: Document = self._port.json(f"/zones/{zone_set_id}")
        return found

    def put_zone_set(
        self, zone_set_id: str, document: Mapping[str, Any], *, id_property: str | None, name_property: str | None
    ) -> Document:
        return dict(self._port.put_zones(zone_set_id, document, id_property=id_property, name_property=name_property))

    def remove_zone_set(self, zone_set_id: str) -> None:
        self._port.remove_zones(zone_set_id)


def _page(found: Mapping[str, Any]) -> Document:
    """Return one page as the command line has it: the cursor of the next one instead of links."""
    cursor = next_cursor(found)
    page = {name: value for name, value in found.items() if name != "number_matched"}
    return page | {"links": []} | ({"next": cursor} if cursor is not None else {})


def _inputs(derived: Mapping[str, Any]) -> set[str]:
    return {each["ref"].partition("@")[0] for each in derived["inputs"].values()}
