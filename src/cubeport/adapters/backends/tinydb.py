"""The catalog in one readable JSON file, for small catalogs. Operations are recoverable, but not "ACID".

The file is a TinyDB database, with tables of numbered documents. cubeport uses its own storage class, because TinyDB's overwrites
the file in place and two writers at the same time destroy it. Each commit writes the whole file, so ``doctor`` warns above 1,000
records.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tinydb.storages import Storage

from cubeport.adapters.backends.documents import DocumentBackend, State
from cubeport.catalog.backend import Finding, RecordChange, Row
from cubeport.catalog.disk.durable import make_folders, open_file, sync, sync_folder, write_all
from cubeport.catalog.disk.locks import FileLock
from cubeport.catalog.disk.mounts import refuse_network
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import Model, Operation, trusted_record
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CatalogMoved,
    Conflict,
    CorruptCatalog,
    InvalidRequest,
    NewerModel,
    NoSpace,
)

SCHEMA = 1
"""The version of the file that this release writes."""

OPERATIONS_KEPT = 100
"""How many finished operations the file keeps (the newest). Operations with an open journal are always kept."""

type Tables = Mapping[str, Mapping[str, Any]]
type Signature = tuple[int, int, int]

_NO_DIGEST = "0" * 64
_ENTRY = re.compile(r'\n    "\d+": ')
_END = "\n    }"


class WrittenText(str):
    """A document as JSON text, indented as in the file."""

    __slots__ = ()


class CatalogStorage(Storage):
    """TinyDB storage for one catalog file. Reading verifies the whole file; writing replaces it by renaming and keeps a ``.bak``.

    Only the holder of the catalog's lock may write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.raw = ""
        """The last text read."""
        self.signature: Signature = (0, 0, 0)
        """Inode, modification time and size of the file at the last read or write."""

    def changed(self) -> bool:
        """Return whether the file changed since the last read or write."""
        try:
            return _signature(self.path.stat()) != self.signature
        except FileNotFoundError:
            raise self._corrupt("is missing") from None

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the tables. Raises CorruptCatalog; an unreadable file is never treated as empty."""
        try:
            with self.path.open("rb") as file:
                signature = _signature(os.fstat(file.fileno()))
                raw = file.read()
        except FileNotFoundError:
            raise self._corrupt("is missing") from None
        except OSError as exc:
            raise BackendUnavailable(f"{self.path.name} does not answer: {exc.strerror}.", next_step="cubeport doctor") from exc
        try:
            tables: dict[str, dict[str, Any]] = json.loads(raw)
            said = tables["catalog"]["1"]["sha256"]
            schema = tables["catalog"]["1"]["schema"]
            if schema > SCHEMA:
                raise NewerModel(f"The file has schema {schema}; this release knows up to {SCHEMA}.", next_step="upgrade cubeport")
            if hashlib.sha256(raw.replace(said.encode(), _NO_DIGEST.encode(), 1)).hexdigest() != said:
                raise self._corrupt("differs from what was written (its sha256)")
            self.raw = raw.decode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise self._corrupt(f"cannot be read ({exc})") from exc
        self.signature = signature
        return tables

    def write(self, data: Tables) -> None:
        """Replace the file by *data* durably. Documents can already be :class:`WrittenText`."""
        for leftover in self.path.parent.glob(f".{self.path.name}.*.part"):
            leftover.unlink(missing_ok=True)  # from a writer that died, because we have the lock
        self._publish(encoded(data), self._replace)

    def create(self, data: Tables) -> None:
        """Write the file, which must not exist. Raises CatalogExists."""
        self._publish(encoded(data), self._link)

    def _publish(self, raw: bytes, publish: Callable[[Path], None]) -> None:
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        try:
            fd = open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                write_all(fd, raw)
                sync(fd)
                signature = _signature(os.fstat(fd))
            finally:
                os.close(fd)
            publish(part)
        except OSError as exc:
            cls = NoSpace if exc.errno in (errno.ENOSPC, errno.EDQUOT) else BackendUnavailable
            raise cls(f"{self.path.name} cannot be written: {exc.strerror}.", next_step="cubeport doctor") from exc
        finally:
            part.unlink(missing_ok=True)
        try:
            sync_folder(self.path.parent)
        except OSError as exc:
            # The file was renamed, but perhaps not durably. The commit is neither confirmed nor undone, so callers must read again.
            raise BackendUnavailable(
                f"It is unknown whether {self.path.name} was written: {exc.strerror}.", next_step="cubeport recover"
            ) from exc
        self.signature = signature
        self.raw = ""

    def _replace(self, part: Path) -> None:
        former = part.with_suffix(".bak")
        os.link(self.path, former)
        former.replace(self.path.with_name(self.path.name + ".bak"))
        part.replace(self.path)

    def _link(self, part: Path) -> None:
        try:
            os.link(part, self.path)
        except FileExistsError:
            raise CatalogExists(f"There is already a catalog: {self.path}.", next_step="open it") from None

    def _corrupt(self, why: str) -> CorruptCatalog:
        return CorruptCatalog(
            f"The catalog's file {self.path.name} {why}.",
            next_step=f"inspect {self.path.name}.bak, the state before the last commit",
        )


def encoded(data: Tables) -> bytes:
    """Return the bytes of the file: sorted, indented by two, with its own sha256 (computed with zeros in that place)."""
    tables: list[str] = []
    for name in sorted(data):
        entries = [
            f'    "{number}": {document if isinstance(document, WrittenText) else written(document)}'
            for number, document in data[name].items()
        ]
        tables.append(f'  "{name}": {{\n' + ",\n".join(entries) + "\n  }" if entries else f'  "{name}": {{}}')
    raw = ("{\n" + ",\n".join(tables) + "\n}\n").encode()
    return raw.replace(_NO_DIGEST.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def written(document: Any) -> WrittenText:
    """Return the document as text in the format of the file."""
    return WrittenText(dumps(document, indent=True).replace("\n", "\n    "))


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class TinyBackend(DocumentBackend):
    """A catalog in one JSON file. On one machine, many processes can read it while one at a time writes."""

    def __init__(self, path: Path, *, lock_path: Path | None = None, read_only: bool = False, lock_timeout_s: float = 10.0) -> None:
        if not read_only:
            refuse_network(path)
        super().__init__(read_only=read_only)
        self._path = path
        self._lock_path = lock_path or path.parent / "locks" / "catalog.lock"
        self._lock_timeout_s = lock_timeout_s
        if not read_only:
            make_folders(self._lock_path.parent)
        self._storage = CatalogStorage(path)
        self._state: State | None = None
        self._texts: dict[RowPlace, tuple[object, WrittenText]] | None = None
        """Each value and its text in the file, by its place. Only changed values are formatted again."""
        self._reading = threading.RLock()
        retired = self.load_state().retired
        if retired is not None and not read_only:
            raise CatalogMoved.to(retired)

    @classmethod
    def open(cls, path: Path, **options: Any) -> Self:
        """Return the catalog in the file at *path*. Raises CorruptCatalog if it is missing or unreadable, NetworkFilesystem."""
        return cls(path, **options)

    @classmethod
    def create(cls, path: Path, catalog_id: str, **options: Any) -> Self:
        """Make a complete new file, or none, and open it. Raises CatalogExists."""
        refuse_network(path)
        CatalogStorage(path).create(_tables(State(catalog_id), {}))
        return cls(path, **options)

    def lock(self) -> FileLock:
        """Return the lock of all writers."""
        return FileLock(self._lock_path, {}, self._lock_timeout_s)

    def load_state(self) -> State:
        """Return the committed state. It is read again if the file changed."""
        with self._reading:
            if self._state is None or self._storage.changed():
                self._state = _state_of(self._storage.read())
                self._texts = None
            return self._state

    def save_state(self, state: State) -> None:
        """Replace the file by the state."""
        finished = [each for each in state.operations.values() if each.status not in ("planned", "running")]
        finished.sort(key=lambda each: each.started_at)
        # Recovery needs the row of an operation with an open journal. Without it, recovery would remove committed bytes.
        journals = self._path.parent / "journal" / "open"
        for each in finished[: max(0, len(finished) - OPERATIONS_KEPT)]:
            if not (journals / f"{each.operation_id}.jsonl").exists():
                del state.operations[each.operation_id]
        with self._reading:
            known = self._texts if self._texts is not None else self._recall()
            texts = {}
            for place, value in _places(state):
                kept = known.get(place)
                texts[place] = kept if kept is not None and kept[0] is value else (value, written(_document(value)))
            try:
                self._storage.write(_tables(state, texts))
            except BaseException:
                self._state = None  # the contents of the file are unknown, so read it again
                raise
            self._state, self._texts = state, texts

    def _recall(self) -> dict[RowPlace, tuple[object, WrittenText]]:
        """Return the texts of the values, cut from the text of the file."""
        if self._state is None or not self._storage.raw:
            return {}
        entries = [found for part in self._storage.raw.split(_END) if (found := _ENTRY.search(part))]
        texts = [WrittenText(found.string[found.end() :] + _END) for found in entries[1:]]  # the first entry is the catalog's own
        return {place: (value, text) for (place, value), text in zip(_places(self._state), texts, strict=True)}

    def check(self, deep: bool = False) -> list[Finding]:  # noqa: ARG002  # every reading verifies the whole file
        """Return the problems of the file."""
        try:
            _state_of(CatalogStorage(self._path).read())
        except CorruptCatalog as exc:
            return [Finding("corrupt-catalog", self._path.name, exc.message, exc.next_step)]
        return []


type RowPlace = tuple[str, str]


def _places(state: State) -> Iterator[tuple[RowPlace, Any]]:
    """Yield the entries of the file except the catalog's own, in the file's order of tables."""
    for change in state.changes.values():
        yield ("changes", change.id), change
    for operation in state.operations.values():
        yield ("operations", operation.operation_id), operation
    for record in state.records.values():
        yield ("records", record.id), record
    for row in state.rows.values():
        yield ("rows", f"{row.table}/{row.id}"), row


def _document(value: Any) -> Any:
    return value.to_mapping() if isinstance(value, Model) else asdict(value)


def _tables(state: State, texts: Mapping[RowPlace, tuple[object, WrittenText]]) -> Tables:
    own = {"catalog_id": state.catalog_id, "generation": state.generation, "retired": state.retired, "schema": SCHEMA}
    tables: dict[str, dict[str, Any]] = {"catalog": {"1": own | {"sha256": _NO_DIGEST}}}
    tables |= {name: {} for name in ("changes", "operations", "records", "rows")}
    for (name, _), (_, text) in texts.items():
        table = tables[name]
        table[str(len(table) + 1)] = text
    return tables


def _state_of(tables: Mapping[str, Mapping[str, Any]]) -> State:
    own = tables["catalog"]["1"]
    state = State(own["catalog_id"], own["generation"], own["retired"])
    try:
        for record in map(trusted_record, tables["records"].values()):
            state.put(record)
        state.operations = {each["operation_id"]: Operation.from_mapping(each) for each in tables["operations"].values()}
        state.rows = {(each["table"], each["id"]): Row(**each) for each in tables["rows"].values()}
        state.changes = {each["id"]: RecordChange(**each) for each in tables["changes"].values()}
    except (InvalidRequest, Conflict, TypeError, KeyError) as exc:
        raise CorruptCatalog(f"The catalog's file is not valid: {exc}", next_step="cubeport doctor") from exc
    return state
