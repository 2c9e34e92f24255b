"""The records of a service: the rest of its catalog, of which datasets are one kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from cubeport.client._http import Session, next_cursor
from cubeport.errors import AmbiguousId, ArtifactMissing, InvalidRequest, RecordNotFound

type Record = Mapping[str, Any]
"""The document of a record: the fields that it has in the catalog, ``artifacts`` and ``links``."""


class Count(int):
    """How many records match."""

    exact: bool
    """Whether these are all; if not, more match."""

    def __new__(cls, number: int, *, exact: bool = True) -> Self:
        """Return the number."""
        made = super().__new__(cls, number)
        made.exact = exact
        return made

    def __str__(self) -> str:
        return f"{int(self)}" if self.exact else f"at least {int(self)}"


class Records:
    """The records that you may see, as mappings.

    >>> records = cubeport.connect("https://data.example.org").records
    >>> [each["title"] for each in records.search("year>=2018", kind="report")]
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(
        self,
        *where: str,
        without: Sequence[str] = (),
        text: str | None = None,
        box: Sequence[float] | None = None,
        time: str | None = None,
        kind: str | None = None,
        status: str = "active",
        order: str = "-created_at",
        cursor: str | None = None,
    ) -> Iterator[Record]:
        """Yield the matching records in order. Further pages are requested when you need them.

        Parameters
        ----------
        where, without
            Terms that must match, and terms that must not: ``year>=2018``, ``site="Oslo"``, ``title:ice``, ``doi?``.
        text
            Words in title, description, tags or key.
        box
            West, south, east, north in degrees (CRS84).
        time
            An RFC 3339 instant, or an interval ``a/b`` with ``..`` for an open end.
        kind
            Kinds with commas between them.
        status
            ``active``, another status, or ``any``; deleted records need a key with the scope ``ingest``.
        order
            Fields with commas between them; ``-`` before one for descending.
        cursor
            Where an earlier page ended.
        """
        given: dict[str, Any] = {"without": without, "text": text, "box": box, "time": time, "kind": kind, "order": order}
        while True:
            page = self.page(*where, **given, status=status, cursor=cursor, count=False)
            yield from page["items"]
            if (cursor := page["next"]) is None:
                return

    def page(
        self,
        *where: str,
        without: Sequence[str] = (),
        text: str | None = None,
        box: Sequence[float] | None = None,
        time: str | None = None,
        kind: str | None = None,
        status: str = "active",
        order: str = "-created_at",
        limit: int = 100,
        cursor: str | None = None,
        count: bool = True,
    ) -> dict[str, Any]:
        """Return one page of :meth:`search` as the service gives it; ``next`` is the cursor of the page after it, or ``None``.

        With *count*, the service also counts what matches, which for each page of a long list would be work for nothing.
        """
        query = _query(where, without, q=text, bbox=box, datetime=time, kind=kind, status=status, sort=order)
        page = self._session.json("/records", **query, count="true" if count else None, cursor=cursor, limit=limit)
        return dict(page) | {"next": next_cursor(page)}

    def count(self, *where: str, without: Sequence[str] = (), text: str | None = None, kind: str | None = None) -> Count:
        """Return how many records match; see :meth:`search`. A service counts up to 10,000."""
        page = self._session.json("/records", **_query(where, without, q=text, kind=kind), count="true", limit=1)
        return Count(page["number_matched"], exact=page.get("counts") != "at least")

    def __iter__(self) -> Iterator[Record]:
        return self.search()

    def __getitem__(self, name: str) -> Record:
        """Return the same as :meth:`get`."""
        return self.get(name)

    def get(self, name: str) -> Record:
        """Return the record with this id or key, or whose id begins with it. Raises NotFound, AmbiguousId."""
        found: Record = self._session.json(self._path(name))
        return found

    def history(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the versions of a record, newest first, each with what changed."""
        found: Sequence[Mapping[str, Any]] = self._session.json(f"{self._path(name)}/history")["items"]
        return found

    def _path(self, name: str) -> str:
        if "/" not in name:
            return f"/records/{name}"
        # A key such as a DOI is no part of a path, so it is searched.
        found = self._session.json("/records", where=f"key={json.dumps(name)}", limit=1)["items"]
        if not found:
            raise RecordNotFound(f"There is no record {name[:80]!r}.", what="record")
        return f"/records/{found[0]['id']}"

    def read(self, name: str, artifact: str | None = None) -> bytes:
        """Return the bytes of an artifact of a record.

        Parameters
        ----------
        artifact
            Its id or the beginning of it, role or original name. Default: the first with the role ``primary``, or the first.

        Raises
        ------
        ArtifactMissing
            If the record has no such artifact, or the service does not have its bytes.
        AmbiguousId
            If several have the role or the name.
        InvalidRequest
            If it is a folder.
        """
        return self.fetch(name, artifact)[1]

    def fetch(self, name: str, artifact: str | None = None) -> tuple[Mapping[str, Any], bytes]:
        """Return an artifact and its bytes; see :meth:`read`."""
        record = self[name]
        chosen = _chosen(record, artifact)
        if chosen["target_kind"] == "directory":
            raise InvalidRequest(f"Artifact {chosen['artifact_id']} is a folder, which a service does not send.")
        if chosen["status"] == "external" or chosen["href"] is None:
            raise ArtifactMissing(
                f"The service does not have the bytes of artifact {chosen['artifact_id']}; it is {chosen['status']}.",
                next_step=f"read {chosen['href']}" if chosen["href"] else None,
            )
        return chosen, self._session.get(f"/records/{record['id']}/artifacts/{chosen['artifact_id']}", {})


def _chosen(record: Record, name: str | None) -> Mapping[str, Any]:
    """Return the artifact that a catalog would choose for *name*."""
    able: Sequence[Mapping[str, Any]] = record["artifacts"]
    if name is None:
        found = sorted(able, key=lambda each: each["role"] != "primary")[:1]
    else:
        by_id = [each for each in able if each["artifact_id"].startswith(name)]
        found = by_id or next((some for of in ("role", "original_name") if (some := [it for it in able if it[of] == name])), [])
    if not found:
        raise ArtifactMissing(f"Record {record['id']} has no artifact{'' if name is None else f' {name}'}.")
    if len(found) > 1:
        lines = "".join(f"\n  {each['artifact_id']}  {each['role']}  {each['original_name'] or ''}".rstrip() for each in found)
        raise AmbiguousId(f"{name} matches several artifacts:{lines}", next_step="name one by its id")
    return found[0]


def _query(where: Sequence[str], without: Sequence[str], **more: Any) -> Mapping[str, Any]:
    box = more.get("bbox")
    if box is not None:
        more["bbox"] = ",".join(str(float(each)) for each in box)
    return {"where": list(where), "not": list(without)} | {name: value for name, value in more.items() if value is not None}
