"""A cubeport service, as seen from Python on another machine."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from cubeport.client._http import HttpSession, Session, next_cursor
from cubeport.client.dataset import Dataset
from cubeport.client.found import Found, has
from cubeport.client.records import Records
from cubeport.cubes.following import waiting
from cubeport.errors import CoverageIncomplete, CubeportError, InvalidRequest

type Progress = Callable[[str, int, int], None]
"""Called with the phase, how much of it is done, and of how much."""

UNFINISHED = ("accepted", "running", "retrying")
"""States of an ingestion that goes on."""
_AT_ONCE = {"Prefer": "respond-async"}


class Datasets(Found[Dataset]):
    """The datasets that a search finds, one after the other: ``for data in found``, ``found[0]``, ``list(found)``."""

    def __init__(self, session: Session, asked: Mapping[str, Any]) -> None:
        self._session = session
        self._asked = {name: value for name, value in asked.items() if value is not None}
        words = ", ".join(f"{name}={value!r}" for name, value in self._asked.items())
        super().__init__(self._all, f"{session.url}{' ' if words else ''}{words}")

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        found = itertools.islice(self._pages(), 20)
        words = ", ".join(str(value) for value in self._asked.values())
        heading = f"Datasets: {words}" if words else "Datasets"
        return notebook.listing(heading, [(each.id, each.title, notebook.span(each.time)) for each in found])

    def _all(self) -> Iterator[Dataset]:
        cursor: str | None = None
        while True:
            page = self._session.json("/datasets", **self._asked, cursor=cursor, limit=100)
            for summary in page["items"]:
                yield Dataset(self._session, summary["dataset_id"], summary)
            if (cursor := next_cursor(page)) is None:
                return


class Port:
    """A cubeport service at an address. Creating it makes no request.

    >>> port = Port("https://data.example.org")
    >>> port
    <cubeport.Port https://data.example.org>
    """

    def __init__(self, url: str, *, key: str | None = None) -> None:
        """Name the service at *url*. If the service needs a key, *key* or else ``CUBEPORT_KEY`` is sent."""
        self._session: Session = HttpSession(url, key=key or os.environ.get("CUBEPORT_KEY"))

    @classmethod
    def over(cls, session: Session) -> Port:
        """Return the service that a session reaches: over HTTP, or in this process."""
        port = cls.__new__(cls)
        port._session = session  # noqa: SLF001 (its own)
        return port

    def __repr__(self) -> str:
        return f"<cubeport.Port {self._session.url}>"

    def __enter__(self) -> Self:
        """Return itself, so that the same ``with`` is right for a folder and for an address. No connection stays open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def search(
        self,
        text: str | None = None,
        *,
        box: Sequence[float] | None = None,
        time: str | None = None,
        variable: str | None = None,
    ) -> Datasets:
        """Return the matching published datasets, ordered by id. Their pages are requested when you need them.

        Parameters
        ----------
        text
            Words in the title, description, keywords or id, or in the names of variables.
        box
            West, south, east, north in degrees (CRS84); west > east crosses the antimeridian.
        time
            An RFC 3339 instant, or an interval ``a/b`` with ``..`` for an open end.
        variable
            The name of a variable.
        """
        return Datasets(self._session, {"q": text, "bbox": _numbers(box), "datetime": time, "variable": variable})

    def __iter__(self) -> Iterator[Dataset]:
        return self.search()

    def __contains__(self, ref: str) -> bool:
        """Return whether there is such a dataset, as ``port[ref]`` would find it."""
        return has(self, ref)

    @property
    def records(self) -> Records:
        """The records of the service's catalog, of any kind."""
        return Records(self._session)

    def __getitem__(self, ref: str) -> Dataset:
        """Return the dataset ``id``, or one state of it, ``id@tag`` or ``id@version``.

        Raises
        ------
        NotFound
            If there is none. The error names similar ids.
        """
        return Dataset(self._session, ref, self._session.json(f"/datasets/{ref}"))

    def get(self, ref: str) -> Dataset:
        """Return the same as ``port[ref]``."""
        return self[ref]

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        about = self._session.json("/info")
        first = list(itertools.islice(self.search(), 20))
        rows = [(each.id, each.title, notebook.span(each.time)) for each in first]
        return notebook.listing(str(about.get("title") or self._session.url), rows)

    def changes(self, since: str | None = None, *, dataset: str | None = None) -> tuple[list[Mapping[str, Any]], str]:
        """Return the changes after the cursor *since*, oldest first, and the cursor of the next call.

        Parameters
        ----------
        since
            What an earlier call returned. Default: the oldest change that the service remembers.
        dataset
            The id of the only dataset that you want to hear of.
        """
        found: list[Mapping[str, Any]] = []
        while True:
            page = self._session.json("/changes", cursor=since, dataset_id=dataset, limit=1000)
            found += page["items"]
            since = page["next_cursor"]
            if not page["items"]:
                return found, str(since)

    # --- zone sets ---

    def zones(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the zone sets of the service, by id."""
        return {each["zone_set_id"]: each for each in self._session.json("/zones")["items"]}

    def put_zones(
        self, zone_set_id: str, zones: Any, *, id_property: str | None = None, name_property: str | None = None
    ) -> Mapping[str, Any]:
        """Store polygons as a zone set, and return its summary. This needs a key.

        Parameters
        ----------
        zones
            A GeoJSON FeatureCollection, or anything with ``__geo_interface__``, such as a GeoDataFrame.
        id_property, name_property
            The properties that identify and name each zone.

        Raises
        ------
        InvalidRequest
            With every feature that is not a zone.
        """
        document = zones if isinstance(zones, Mapping) else zones.__geo_interface__
        query = {name: value for name, value in (("id_property", id_property), ("name_property", name_property)) if value}
        body = json.dumps(document).encode()
        answer = self._session.send("PUT", f"/zones/{zone_set_id}", query, body=body, media_type="application/geo+json")
        summary: Mapping[str, Any] = json.loads(answer)
        return summary

    def remove_zones(self, zone_set_id: str) -> None:
        """Remove a zone set. This needs a key."""
        self._session.send("DELETE", f"/zones/{zone_set_id}")

    # --- what a key may do ---

    def ingest(
        self,
        dataset_id: str,
        *files: str | Path,
        title: str | None = None,
        progress: Progress | None = None,
        **request: Any,
    ) -> Dataset:
        """Publish files of this machine, or a source that the service can read, as a dataset, and return it. This needs a key.

        ::

            port.ingest("tas", "tas_2024.nc", title="Air temperature")

        Parameters
        ----------
        files
            Sent to the service, where they become one version. Without files the dataset is made from its template, or from
            *source*.
        progress
            Called with phase, done and total. :func:`cubeport.client.bar` draws one.
        request
            Members of the body of ``POST /ingestions``: ``source``, ``mode``, ``start``, ``end``, ``template``, ``tag`` …

        Raises
        ------
        SourceRejected, DataConflict, Unauthorized, CubeportError
            What the ingestion failed with.
        """
        if files and "source" in request:
            raise InvalidRequest("Give files or a source, not both.")
        if title is not None:
            request["template"] = {**(request.get("template") or {}), "title": title}
        if files:
            request["source"] = {"kind": "upload", "upload": [self.upload(file, progress=progress) for file in files]}
        _raise_failure(self.begin({"dataset_id": dataset_id, **request}, progress=progress))
        return self[dataset_id]

    def update(
        self,
        dataset_id: str,
        *files: str | Path,
        on_overlap: Literal["error", "skip", "replace"] | None = None,
        allow_gaps: bool = False,
        progress: Progress | None = None,
        **request: Any,
    ) -> Dataset:
        """Add steps of files to a dataset, or replace existing steps, and return it. All other data are kept. This needs a key.

        ::

            port.update("tas", "tas_2025.nc")

        Parameters
        ----------
        files
            As in :meth:`ingest`; instead of them, *source* names what the service can read.
        on_overlap
            What to do with steps that the dataset already has: ``error`` (the default), ``skip`` or ``replace``.
        allow_gaps
            Whether missing periods are accepted, and listed.
        progress, request
            As in :meth:`ingest`.

        Raises
        ------
        NotFound
            If there is no such dataset.
        InvalidRequest
            If there is neither a file nor a source.
        SourceRejected, DataConflict, Unauthorized, CubeportError
            What the ingestion failed with.
        """
        if not files and "source" not in request:
            words = f"update({dataset_id!r}, 'FILE'); what follows a source is updated by sync({dataset_id!r})"
            raise InvalidRequest("update takes files or a source.", next_step=words)
        request |= {"mode": "update", "on_overlap": on_overlap, "allow_gaps": allow_gaps}
        return self.ingest(dataset_id, *files, progress=progress, **request)

    def begin(self, request: Mapping[str, Any], *, progress: Progress | None = None) -> Mapping[str, Any]:
        """Send the body of ``POST /ingestions``, and return the ingestion as it ended, also if it failed. This needs a key."""
        answer = self.accepted(request)
        if answer["ingestion_id"] is not None and answer["status"] in UNFINISHED:
            return self.ended(answer["ingestion_id"], progress=progress)
        return answer

    def accepted(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send the body of ``POST /ingestions``, and return the ingestion as it was accepted. This needs a key."""
        answer: Mapping[str, Any] = self.send("POST", "/ingestions", request, headers=_AT_ONCE)
        return answer

    def upload(self, file: str | Path, *, progress: Progress | None = None) -> str:
        """Send a file, and return its id, for use as ``upload:ID`` in an ingestion. This needs a key."""
        path = Path(file)
        size = path.stat().st_size
        # A server that refuses a key does not read the file first, and then its answer can be lost with the connection.
        self._session.json("/ingestions", limit=1)
        with path.open("rb") as content:
            told = _Told(content, size, progress) if progress is not None else content
            answer = self._session.send(
                "POST",
                "/uploads",
                {"filename": path.name},
                body=told,
                media_type="application/octet-stream",
                headers={"Content-Length": str(size)},
            )
        return str(json.loads(answer)["upload_id"])

    def sync(
        self,
        dataset_id: str,
        *,
        end: str | None = None,
        publish: bool | None = None,
        prefer_zarr: bool | None = None,
        progress: Progress | None = None,
    ) -> Mapping[str, Any]:
        """Update a dataset from its source; return what came of it, with the dataset as it is then. This needs a key.

        Parameters
        ----------
        prefer_zarr
            Whether the new version has no NetCDF copy. Default: as the template and the dataset have it.

        Raises
        ------
        CubeportError
            Of the class of what the sync failed with.
        """
        given = {"end": end, "publish": publish, "prefer_zarr": prefer_zarr}
        body = {name: value for name, value in given.items() if value is not None}
        answer: dict[str, Any] = dict(self.send("POST", f"/sync/{dataset_id}", body, headers=_AT_ONCE))
        if answer.get("sync_id") and answer["status"] in UNFINISHED:
            ended = self.ended(answer["sync_id"], progress=progress)
            try:
                _raise_failure(ended)
            except CoverageIncomplete as error:
                detail = answer["sync_detail"]
                if (waits := waiting(detail["reason"], error.kind)) is None:
                    raise
                told = {"message": error.message}
                return answer | {"status": "waiting_for_source", **told, "sync_detail": {**detail, **waits, **told}}
            status = "up_to_date" if ended["reused"] else ended["status"]
            answer |= {"status": status, "dataset": self._session.json(f"/datasets/{dataset_id}")}
            if ended["reused"]:  # it hoped for new data, and there were none
                answer["sync_detail"] = self._session.json(f"/sync/{dataset_id}/plan", end=end)
        return answer

    def jobs(self, *, dataset: str | None = None, status: str | None = None) -> list[Mapping[str, Any]]:
        """Return the ingestions, newest first. This needs a key."""
        found: list[Mapping[str, Any]] = self.whole("/ingestions", dataset_id=dataset, status=status)["items"]
        return found

    def cancel(self, job_id: str) -> Mapping[str, Any]:
        """Cancel an ingestion. This needs a key."""
        found: Mapping[str, Any] = self.send("DELETE", f"/ingestions/{job_id}")
        return found

    def retry(self, job_id: str) -> Mapping[str, Any]:
        """Send the request of a failed or cancelled ingestion again; return the new ingestion. This needs a key."""
        found: Mapping[str, Any] = self.send("POST", f"/ingestions/{job_id}/retry")
        return found

    def follow(self, job_id: str, *, progress: Progress | None = None) -> Mapping[str, Any]:
        """Wait until an ingestion ends, and return it; *progress* is called meanwhile. This needs a key.

        Raises
        ------
        CubeportError
            Of the class of what it failed with.
        """
        found = self.ended(job_id, progress=progress)
        _raise_failure(found)
        return found

    def ended(self, job_id: str, *, progress: Progress | None = None) -> Mapping[str, Any]:
        """Return the same as :meth:`follow`, also for an ingestion that failed: its ``error`` says why."""
        data = ""
        for line in self._session.lines(f"/ingestions/{job_id}/events"):
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
            elif not line and data:
                event, data = json.loads(data), ""
                told = event.get("progress")
                if told is not None and progress is not None:
                    progress(str(told["phase"]), int(told["done"] or 0), int(told["total"] or 0))
                if event["status"] not in UNFINISHED:
                    break
        found: Mapping[str, Any] = self._session.json(f"/ingestions/{job_id}")
        return found

    def delete(self, dataset_id: str, *, purge: bool = False) -> Mapping[str, Any]:
        """Delete a dataset; with *purge* its data too. This needs an admin key."""
        answer = self._session.send("DELETE", f"/datasets/{dataset_id}", {"purge": "true"} if purge else {})
        found: Mapping[str, Any] = json.loads(answer)
        return found

    def restore(self, dataset_id: str) -> None:
        """Restore a deleted dataset, unpublished. This needs an admin key."""
        self.send("POST", f"/datasets/{dataset_id}/restore")

    # --- any document ---

    def json(self, path: str, **query: object) -> Any:
        """Return the JSON document at *path* below the address of the service. Raises the error that its problem document names."""
        return self._session.json(path, **query)

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Any:
        """Send a request that may change something, once, with a JSON *body*; return the JSON document of the answer, if any."""
        content = json.dumps(body).encode() if body is not None else None
        answer = self._session.send(method, path, query, body=content, headers=headers)
        return json.loads(answer) if answer else None

    def whole(self, path: str, **query: object) -> dict[str, Any]:
        """Return the list at *path* with the items of all its pages."""
        found: dict[str, Any] = dict(self._session.json(path, **query, limit=1000))
        while (cursor := next_cursor(found)) is not None:
            page = self._session.json(path, **query, limit=1000, cursor=cursor)
            found |= {"items": [*found["items"], *page["items"]], "links": page["links"]}
        return found | {"links": [], "number_returned": len(found["items"])}


class _Told:
    """A file that reports how much of it was read."""

    def __init__(self, file: Any, size: int, progress: Progress) -> None:
        self._file = file
        self._size = size
        self._done = 0
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._file.read(size)
        self._done += len(content)
        self._progress("sending", self._done, self._size)
        return content


@contextmanager
def bar() -> Iterator[Progress]:
    """Return a context that draws a progress bar on stderr. Pass it to ``ingest``, ``sync`` or ``follow``.

    ::

        with cubeport.client.bar() as progress:
            port.ingest("tas", "tas.nc", progress=progress)
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as drawn:
        tasks: dict[str, Any] = {}

        def tell(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                for task in tasks.values():
                    drawn.update(task, visible=False)
                tasks[phase] = drawn.add_task(phase, total=total or None)
            drawn.update(tasks[phase], completed=done, total=total or None)

        yield tell


def _raise_failure(ingestion: Mapping[str, Any]) -> None:
    """Raise what an ingestion failed with, as an error of its class, if it did."""
    if ingestion["error"] is not None:
        raise CubeportError.from_mapping(ingestion["error"])


def _numbers(box: Sequence[float] | None) -> str | None:
    return None if box is None else ",".join(repr(float(each)) for each in box)
