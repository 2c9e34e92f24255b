"""The journal. An operation records what it is about to do before it does it, so that another process can finish or undo it.

Each open operation has one file, ``journal/open/<operation_id>.jsonl``, which is locked with flock while its process lives. A free
lock therefore means that the owner is dead, for any reason. A closed operation is appended to ``journal/operations-YYYYMM.jsonl``
(the month of its start), so recovery only needs to list one folder. The operation's row in the catalog decides whether it happened;
the journal only says what there is to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from cubeport.catalog.disk.durable import make_folders, open_file, store_errors, sync, sync_folder, write_all
from cubeport.catalog.disk.failpoints import STATES, step
from cubeport.catalog.forms.canonical import dumps, is_id, json_value, now, timestamp
from cubeport.errors import RecordExists

CLOSED = ("committed", "rolled_back")
"""The final states, after which nothing remains to be done."""


@dataclass(frozen=True, slots=True)
class Line:
    """One state that an operation reached."""

    operation_id: str
    n: int
    at: str
    state: str
    data: Mapping[str, Any] = field(default_factory=dict)


class JournalEntry(Protocol):
    """The journal of an operation, held by the process that may write it."""

    operation_id: str
    lines: list[Line]

    def write(self, state: str, data: Mapping[str, Any] | None = None, *, binding: bool = False, durable: bool = False) -> None:
        """Add a line. *durable* syncs it and all lines before it to the disk; *binding* leaves this to :meth:`settle`."""

    def settle(self) -> None:
        """Sync all binding lines to the disk."""

    def close(self) -> None:
        """Move the journal to the closed operations."""

    def leave(self) -> None:
        """Release the journal unchanged. It stays open for ``recover``."""


class Journal(Protocol):
    """The journal of a catalog's operations: ``FileJournal`` on one machine, a table on several."""

    def begin(self, operation_id: str) -> JournalEntry:
        """Open a new operation. Raises RecordExists if an operation with this id was begun before."""

    def open_ids(self) -> list[str]:
        """Return the operations that are not closed, whether their owners are alive or dead."""

    def take(self, operation_id: str) -> JournalEntry | None:
        """Return the journal of a dead owner. Returns ``None`` without waiting if its owner lives or it is closed."""

    def read(self, operation_id: str) -> list[Line]:
        """Return the lines of an operation, open or closed, even if another process holds its lock."""

    def alive(self, operation_id: str) -> bool:
        """Return whether a process holds its lock."""

    def closed(self) -> Iterator[list[Line]]:
        """Yield the lines of each closed operation, oldest month first."""

    def differences(self) -> Iterator[str]:
        """Yield the place of each damaged line. The incomplete end of an open operation is not damage."""


class FileEntry:
    """An open journal file that this process has locked."""

    def __init__(self, journal: FileJournal, operation_id: str, descriptor: int, lines: list[Line]) -> None:
        self.operation_id = operation_id
        self.lines = lines
        self._journal = journal
        self._descriptor = descriptor
        self._named = bool(lines)
        self._owed = False

    def write(self, state: str, data: Mapping[str, Any] | None = None, *, binding: bool = False, durable: bool = False) -> None:
        """Add a line; see :class:`JournalEntry`."""
        assert state in STATES, state
        line = Line(self.operation_id, len(self.lines), timestamp(now()), state, dict(data or {}))
        with store_errors("write the journal"), step(state):
            self._append(_text(line))
            self.lines.append(line)
            self._owed = self._owed or binding
            if durable:
                self._sync()

    def _append(self, text: bytes) -> None:
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            write_all(self._descriptor, text)
        except OSError:
            # A partial line in the middle would hide everything after it. At the end it is only incomplete.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end)
            raise

    def _sync(self) -> None:
        sync(self._descriptor)
        if not self._named:
            sync_folder(self._journal.open_folder)
            self._named = True
        self._owed = False

    def settle(self) -> None:
        """See :class:`JournalEntry`."""
        if self._owed:
            with store_errors("write the journal"):
                self._sync()

    def close(self) -> None:
        """Append the journal durably to the file of its month, then unlink it. After a kill in between, readers ignore the copy."""
        with store_errors("close the journal"):
            if self.lines:
                self._journal.archive(_month(self.lines[0].at), _content(self._descriptor))
            self._journal.path(self.operation_id).unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """See :class:`JournalEntry`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FileJournal:
    """The journal of a catalog on one machine, in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open_folder = folder / "open"

    def path(self, operation_id: str) -> Path:
        """Return the file of an open operation."""
        return self.open_folder / f"{operation_id}.jsonl"

    def begin(self, operation_id: str) -> FileEntry:
        """Open a new operation; see :class:`Journal`."""
        with store_errors("write the journal"):
            make_folders(self.open_folder)
            while True:
                try:
                    descriptor = open_file(self.path(operation_id), os.O_RDWR | os.O_CREAT | os.O_EXCL)
                except FileExistsError:
                    raise RecordExists(f"Operation {operation_id} has already begun.", operation_id=operation_id) from None
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if self._is(descriptor, operation_id):
                        entry = FileEntry(self, operation_id, descriptor, [])
                        descriptor = -1
                        return entry
                finally:
                    # The file is not ours: recovery found it empty before we locked it and removed it, or something failed.
                    if descriptor >= 0:
                        os.close(descriptor)

    def _is(self, descriptor: int, operation_id: str) -> bool:
        try:
            return os.path.samestat(self.path(operation_id).stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def open_ids(self) -> list[str]:
        """Return the operations that are not closed, in the order of their ids."""
        with store_errors("list the journal"):
            if not self.open_folder.is_dir():
                return []
            return sorted(p.stem for p in self.open_folder.iterdir() if p.suffix == ".jsonl" and is_id(p.stem))

    def take(self, operation_id: str) -> FileEntry | None:
        """Return the journal of a dead owner without its incomplete end; see :class:`Journal`."""
        with store_errors("read the journal"):
            try:
                descriptor = os.open(self.path(operation_id), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is(descriptor, operation_id):
                    lines, length = _parse(_content(descriptor))
                    os.ftruncate(descriptor, length)
                    entry = FileEntry(self, operation_id, descriptor, lines)
                    descriptor = -1
                    return entry
            except BlockingIOError:
                return None
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        return None

    def alive(self, operation_id: str) -> bool:
        """Return whether a process holds its lock."""
        with store_errors("read the journal"):
            try:
                descriptor = os.open(self.path(operation_id), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def read(self, operation_id: str) -> list[Line]:
        """Return the lines of an operation, open or closed."""
        with store_errors("read the journal"):
            try:
                return _parse(self.path(operation_id).read_bytes())[0]
            except FileNotFoundError:
                pass
            found: dict[int, Line] = {}
            for month in self._months():
                with month.open("rb") as file:
                    found |= {each.n: each for line in file if operation_id.encode() in line for each in _parse(line)[0]}
        return [found[n] for n in sorted(found) if found[n].operation_id == operation_id]

    def closed(self) -> Iterator[list[Line]]:
        """Yield the lines of each closed operation. An operation that was closed twice is yielded once for each month."""
        for month in self._months():
            whole: dict[str, dict[int, Line]] = {}
            with store_errors("read the journal"), month.open("rb") as file:
                for text in file:
                    for line in _parse(text)[0]:
                        whole.setdefault(line.operation_id, {})[line.n] = line
            yield from ([lines[n] for n in sorted(lines)] for lines in whole.values())

    def differences(self) -> Iterator[str]:
        """See :class:`Journal`."""
        with store_errors("read the journal"):
            opened = {each: self._lines(self.path(each)) for each in self.open_ids()}
            still_open = [text for texts in opened.values() for text in texts]
            for operation_id, texts in opened.items():
                # The end of an open operation can be incomplete.
                wrong = (n for n, text in enumerate(texts, 1) if not _is_whole(text) and (n < len(texts) or text.endswith(b"\n")))
                yield from (f"{operation_id}.jsonl:{n}" for n in wrong)
            for path in self._months():
                texts = self._lines(path)
                for n, text in enumerate(texts, 1):
                    if not _is_whole(text) and not _was_torn(text, (*texts[n:], *still_open)):
                        yield f"{path.name}:{n}"

    def _lines(self, path: Path) -> list[bytes]:
        try:
            return path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:  # it was closed meanwhile, so its lines are now in its month
            return []

    def _months(self) -> list[Path]:
        return sorted(self.folder.glob("operations-*.jsonl"))

    def archive(self, month: str, content: bytes) -> None:
        """Append complete lines durably to the file of their month."""
        path = self.folder / f"operations-{month}.jsonl"
        fresh = not path.exists()
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            write_all(descriptor, b"\n" * torn + content)
            sync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(self.folder)


def _month(at: str) -> str:
    return at[0:4] + at[5:7]


_SUM = b',"sum":"'
"""The start of the end of a line, which is the digest of the text before it."""


def _text(line: Line) -> bytes:
    document = {"operation_id": line.operation_id, "n": line.n, "at": line.at, "state": line.state, "data": json_value(line.data)}
    body = dumps(document).encode().removesuffix(b"}")
    return body + _SUM + _digest(body) + b'"}\n'


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()


def _is_whole(text: bytes) -> bool:
    try:
        _line(text)
    except ValueError:
        return text == b"\n"
    return True


def _was_torn(text: bytes, others: Sequence[bytes]) -> bool:
    """Return whether the line is the beginning of another line, because a process died while it wrote and the line was written
    again.
    """
    begun = text.removesuffix(b"\n")
    return any(other.startswith(begun) and len(other) > len(begun) + 1 for other in others)


def _line(text: bytes) -> Line:
    """Return the line. Raises ValueError if it is incomplete or damaged. A line of an earlier release has no digest."""
    document = json.loads(text)
    if not isinstance(document, dict) or not text.endswith(b"\n"):
        raise ValueError("not a whole line")
    body, mark, _ = text.rpartition(_SUM)
    if "sum" in document:
        if not mark or document.pop("sum") != _digest(body).decode():
            raise ValueError("not what was written")
    elif b'"sum' in text[-32:]:
        raise ValueError("not what was written")
    try:
        return Line(**document)
    except TypeError as exc:
        raise ValueError("not a line of a journal") from exc


def _content(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    content = b""
    while len(content) < size and (part := os.pread(descriptor, size - len(content), len(content))):
        content += part
    return content


def _parse(content: bytes) -> tuple[list[Line], int]:
    """Return the complete lines and their total length. Everything after the first incomplete line was never acknowledged."""
    lines: list[Line] = []
    length = 0
    for text in content.splitlines(keepends=True):
        try:
            line = _line(text)
        except ValueError:
            break
        lines.append(line)
        length += len(text)
    return lines, length
