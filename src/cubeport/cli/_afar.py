"""The commands on records, at a service elsewhere: what ``/records`` gives is printed as a folder prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.errors import NotFound, TargetExists, Usage

if TYPE_CHECKING:
    from cubeport.catalog.history import Edit
    from cubeport.catalog.models import CatalogRecord
    from cubeport.cli._verbs import RecordsAfar

type Document = Mapping[str, Any]

_NOT_FIELDS = ("artifacts", "links")
"""Members of a document that a record of the catalog has in another form: it says where bytes are on the disk of the service."""


def record_of(document: Document) -> CatalogRecord:
    """Return the record of a document, without its artifacts."""
    from cubeport.catalog.models import CatalogRecord

    return CatalogRecord.model_validate({name: value for name, value in document.items() if name not in _NOT_FIELDS})


def page_of(
    records: RecordsAfar, terms: Sequence[str], without: Sequence[str], asked: Mapping[str, Any], *, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return a page as ``/records`` gives it; with *limit* 0, all pages as one."""
    query: dict[str, Any] = {
        "text": asked["text"],
        "time": asked["time"],
        "box": asked["bbox"],
        "kind": ",".join(asked["kinds"]) if asked["kinds"] else None,
        "status": _status(asked["statuses"]),
        "order": ",".join(asked.get("order") or ["-created_at"]),
    }
    if limit:
        return records.page(*terms, without=without, **query, limit=min(limit, 1000), cursor=cursor)
    items = list(records.search(*terms, without=without, **query, cursor=cursor))
    return {"items": items, "next": None, "number_returned": len(items), "number_matched": len(items) if cursor is None else None}


def _status(statuses: Sequence[str] | set[str] | None) -> str:
    if statuses is None:
        return "any"
    if len(statuses) != 1:
        raise Usage("A service takes one --status, or any.")
    return next(iter(statuses))


def get(records: RecordsAfar, name: str) -> dict[str, Any]:
    """Return the document of a record. Raises Usage for ``NAME@VERSION`` if there is only NAME."""
    try:
        return dict(records.get(name))
    except NotFound:
        plain, at, version = name.rpartition("@")
        if not (at and version.isdigit()):
            raise
        records.get(plain)
        text = f"{name}: a service shows records only as they are now."
        raise Usage(text, next_step=f"cubeport history {plain}") from None


def history_of(records: RecordsAfar, name: str) -> list[Edit]:
    """Return the versions of a record, newest first."""
    from cubeport.catalog.history import Edit, FieldChange

    return [
        Edit(
            each["version"],
            each["at"],
            each["by"],
            each["operation_id"],
            tuple(FieldChange(change["field"], change["before"], change["after"]) for change in each["changes"]),
        )
        for each in records.history(name)
    ]


def copy_out(records: RecordsAfar, name: str, folder: Path, artifact: str | None) -> Path:
    """Write the bytes of an artifact to *folder* under their original name. Raises TargetExists, ArtifactMissing."""
    from cubeport.catalog.artifacts.paths import segment
    from cubeport.catalog.disk.durable import make_folders, replace_file

    chosen, content = records.fetch(name, artifact)
    target = folder / segment(chosen["original_name"] or chosen["artifact_id"])
    if target.exists():
        raise TargetExists(f"{target} already exists.", next_step="name another folder, or remove it")
    make_folders(folder)
    replace_file(target, content)
    return target
