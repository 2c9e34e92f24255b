"""The engines of an instance. One engine writes new versions, and each version is read by the engine that wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from cubeport.catalog.backend import CatalogBackend, Row, Rows
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.write_request import Occupied
from cubeport.errors import Configuration, Corrupt, VersionRemoved
from cubeport.service.ports import Bring, Lister, Reader, SendsCopies, StoredObject, Writer
from cubeport.service.state import VERSION

_REMEMBERED = 100_000
"""For how many versions the engine is cached."""


class Engines:
    """Reads and removes versions with the engine that the catalog names for each.

    Parameters
    ----------
    writer
        Returns the writer of the engine for new versions, which the settings choose.
    reader, lister
        Return the role of the engine with a name. They raise LookupError if there is no such engine.
    """

    def __init__(
        self,
        backend: CatalogBackend,
        *,
        writer: Callable[[], Writer],
        reader: Callable[[str], Reader],
        lister: Callable[[str], Lister],
    ) -> None:
        self._make_writer = writer
        self._rows = backend.rows
        self._make_reader = reader
        self._make_lister = lister
        self._readers: dict[str, Reader] = {}
        self._names: Bounded[str, str] = Bounded(_REMEMBERED)

    @cached_property
    def writer(self) -> Writer:
        """The writer of the engine for new versions. It is made when something is written, because its library may be large."""
        return self._make_writer()

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return one object of a version; see :meth:`Reader.read`."""
        return self._ask(dataset_id, version_id, lambda reader: reader.read(dataset_id, version_id, key))

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return one object of a version's overviews; see :meth:`Reader.overview`."""
        return self._ask(dataset_id, version_id, lambda reader: reader.overview(dataset_id, version_id, key))

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return the manifest of a version; see :meth:`Reader.manifest`."""
        return self._ask(dataset_id, version_id, lambda reader: reader.manifest(dataset_id, version_id))

    def local(self, dataset_id: str, version_id: str, scratch: Path) -> tuple[Path, Bring | None]:
        """Return a folder with a version, or what brings its objects there; see :meth:`Reader.local`."""
        return self._ask(dataset_id, version_id, lambda reader: reader.local(dataset_id, version_id, scratch))

    def copy(self, dataset_id: str, version_id: str, size_bytes: int) -> StoredObject:
        """Return the NetCDF copy of a version, for which the catalog has this size.

        Raises
        ------
        Corrupt
            If it is missing, or is not as long.
        """

        def ask(reader: Reader) -> StoredObject:
            if not isinstance(reader, SendsCopies):
                raise Corrupt("The engine of this version keeps no copies.", next_step="cubeport fsck")
            found = reader.copy(dataset_id, version_id)
            if found.size != size_bytes:
                found.file.close()
                raise Corrupt("The NetCDF copy of this version is not as long as it was written.", next_step="cubeport fsck --data")
            return found

        return self._ask(dataset_id, version_id, ask)

    def waits(self, dataset_id: str, version_id: str) -> bool:
        """Return whether reading a version waits for another machine."""
        return self._ask(dataset_id, version_id, lambda reader: reader.waits(dataset_id, version_id))

    def place(self, dataset_id: str, version_id: str, key: str) -> str | None:
        """Return the path of an object for a web server; see :meth:`Reader.place`."""
        return self._ask(dataset_id, version_id, lambda reader: reader.place(dataset_id, version_id, key))

    def drop(self, dataset_id: str, version_id: str) -> Lister:
        """Remove the bytes of a version, and return the role of its engine that can free what no version shares. Idempotent."""
        name = self._named(dataset_id, version_id)  # not from the cache: what is removed nobody can look up again
        try:
            lister = self._make_lister(name)
        except LookupError as error:
            raise _unknown(name, dataset_id, version_id) from error
        lister.drop(dataset_id, version_id)
        return lister

    def occupied(self, dataset_id: str, names: Iterable[str]) -> Occupied:
        """Return the size of a dataset's versions in all installed engines with these names."""
        size, versions = 0, dict[str, tuple[int, int]]()
        for name in sorted(names):
            with suppress(LookupError):
                found = self._make_lister(name).occupied(dataset_id)
                size += found.size_bytes
                versions.update(found.versions)
        return Occupied(size, versions)

    def _ask[T](self, dataset_id: str, version_id: str, question: Callable[[Reader], T]) -> T:
        """Return the answer of the engine that wrote the version.

        Its name is cached. A version that was found damaged can come again from the service that it mirrors, and be written by the
        engine that the settings choose by then. So what is damaged is looked up again.
        """
        name = self._names.get(version_id)
        if name is None:
            name = self._named(dataset_id, version_id)
            self._names.put(version_id, name)
        try:
            return question(self._reader(name, dataset_id, version_id))
        except Corrupt:
            self._names.drop(version_id)
            if self._named(dataset_id, version_id) == name:
                raise
        return self._ask(dataset_id, version_id, question)

    def _reader(self, name: str, dataset_id: str, version_id: str) -> Reader:
        reader = self._readers.get(name)
        if reader is None:
            try:
                reader = self._readers[name] = self._make_reader(name)
            except LookupError as error:
                raise _unknown(name, dataset_id, version_id) from error
        return reader

    def _named(self, dataset_id: str, version_id: str) -> str:
        """Return the name of the engine that the catalog has."""
        row = self._rows.get(VERSION, version_id)
        if row is None:
            raise VersionRemoved(f"Version {version_id} of {dataset_id!r} was removed.", next_step=f"read {dataset_id}")
        return str(row.document["engine"])


def reference_of(rows: Rows, version_id: str) -> str:
    """Return the reference that the catalog has of a version. Raises VersionRemoved if it has no such version."""
    return str(_row_of(rows, version_id).document.get("reference", ""))


def digest_of(rows: Rows, version_id: str) -> str:
    """Return the digest that the catalog has of a version. Raises VersionRemoved if it has no such version."""
    return str(_row_of(rows, version_id).document["digest"])


def _row_of(rows: Rows, version_id: str) -> Row:
    row = rows.get(VERSION, version_id)
    if row is None:
        raise VersionRemoved(f"Version {version_id} was removed.", next_step="read the dataset")
    return row


def _unknown(name: str, dataset_id: str, version_id: str) -> Configuration:
    return Configuration(
        f"Version {version_id} of {dataset_id!r} was written by the engine {name!r}, which is not installed here.",
        next_step="install the release or the extra that wrote it",
    )
