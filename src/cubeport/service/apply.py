"""Apply: make datasets from a list of sources (``sources.toml``), and add missing checksums at the first fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from cubeport.catalog.forms.datamanifest import Entry
from cubeport.catalog.forms.names import of_name
from cubeport.catalog.models import invalid
from cubeport.errors import CubeportError, InvalidRequest
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.state import VersionState


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of one entry."""

    name: str
    dataset_id: str | None
    outcome: str
    """``created``, ``unchanged``, ``failed``, ``skipped`` (nothing to fetch), ``planned``."""
    detail: str = ""
    sha256: str | None = None
    next_step: str | None = None
    """What helps an entry that failed."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the outcome as ``--json`` prints it."""
        said = {name: getattr(self, name) for name in ("name", "dataset_id", "outcome", "detail", "sha256")}
        return {**said, "next": self.next_step}


def request_of(entry: Entry) -> IngestionRequest | None:
    """Return the ingestion request of an entry, or ``None`` if there is nothing to fetch. Raises InvalidRequest."""
    if entry.is_external:
        return None
    if entry.uris:
        raise InvalidRequest(
            f"The entry {entry.name!r} has uris, {len(entry.uris)} files of one dataset, and cubeport takes one file in an entry.",
            next_step="write an entry with a uri for each file, all with the same dataset_id in their tables _CUBEPORT, and"
            ' mode = "update" there in all but the first',
        )
    if entry.uri is None:
        return None
    own = dict(entry.own)
    dataset_id = own.pop("dataset_id", None) or of_name(entry.name)
    template = {**({"description": entry.description} if entry.description else {}), **dict(own.pop("template", {}))}
    source: Any = own.pop("source", None) or {"kind": "url", "template": entry.uri}
    if isinstance(source, Mapping) and entry.sha256 is not None:
        source = {**source, "checksum": entry.sha256}
    try:
        return IngestionRequest.model_validate({"dataset_id": dataset_id, "source": source, "template": template, **own})
    except ValidationError as exc:
        raise invalid(f"entry {entry.name!r}", exc, IngestionRequest) from None


def skipped(entry: Entry) -> Applied:
    """Return the outcome of an entry with nothing to fetch."""
    why = "it says skip_download" if entry.is_external else "it has no uri: its own project makes it"
    return Applied(entry.name, None, "skipped", why)


def shared(entries: Sequence[Entry]) -> dict[str, InvalidRequest]:
    """Return the refusals, by entry, of those that would make the same dataset. One makes it, and others can add to it."""
    makers: dict[str, list[str]] = {}
    for entry in entries:
        with suppress(CubeportError):  # an entry that is not valid makes nothing
            request = request_of(entry)
            if request is not None and request.mode != "update":
                makers.setdefault(request.dataset_id, []).append(entry.name)
    return {
        name: InvalidRequest(
            f"The entries {', '.join(map(repr, names))} make the same dataset, {dataset_id!r}.",
            next_step=f'give each its own dataset_id in its table [{name}._CUBEPORT], or add to one with mode = "update" there',
        )
        for dataset_id, names in makers.items()
        if len(names) > 1
        for name in names
    }


def known(entry: Entry, version: VersionState, address: str | None) -> str | None:
    """Return the sha256 of the file of an entry if the version was made of that file alone, else ``None``.

    Parameters
    ----------
    address
        The address that the version was made from, if its ingestion is still listed. Otherwise the name of the file must do.
    """
    if entry.uri is None or (address is not None and address != entry.uri):
        return None
    name = unquote(urlsplit(entry.uri).path).rpartition("/")[2]
    return checksum(version) if [each["name"] for each in version.sources] == [name] else None


def checksum(version: VersionState) -> str | None:
    """Return the sha256 of the file from which a version was made, or ``None`` if there are several."""
    return str(version.sources[0]["sha256"]) if len(version.sources) == 1 else None


def failed(entry: Entry, exc: CubeportError, dataset_id: str | None = None) -> Applied:
    """Return the outcome of an entry that was refused."""
    next_step = exc.next_step
    if entry.uri is not None and "source" not in entry.own and not entry.uri.startswith(("http://", "https://")):
        next_step = "a list names addresses: write one that begins with http:// or https://, and its origin in sources.origins"
    return Applied(entry.name, dataset_id, "failed", f"{exc.kind}: {exc.message}", next_step=next_step)


def outcome_of(entry: Entry, done: Ingestion, version: VersionState | None) -> Applied:
    """Return the outcome of an ingestion."""
    if done.status != "completed":
        if done.error is None:
            return Applied(entry.name, done.dataset_id, "failed", done.status)
        return failed(entry, CubeportError.from_mapping(done.error), done.dataset_id)
    word = "unchanged" if done.reused else "created"
    return Applied(entry.name, done.dataset_id, word, str(done.version_id), checksum(version) if version else None)


def missing(entries: Sequence[Entry], applied: Sequence[Applied]) -> dict[str, str]:
    """Return the checksums to add: those of fetched entries that have none."""
    known = {each.name: each.sha256 for each in applied if each.sha256 is not None}
    return {each.name: known[each.name] for each in entries if each.sha256 is None and each.name in known}
