"""Records with the rows that they will have in the tables, made in another process ahead of the insertion of many."""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple, Self

from cubeport.adapters.backends.sql.rows import read_record
from cubeport.adapters.backends.sql.tables import ROW, Derived, record_row
from cubeport.catalog.models import CatalogRecord, storable
from cubeport.catalog.ndjson import Lines, read_records
from cubeport.errors import CubeportError

_KEY, _KIND, _SCHEMA, _DOC = (ROW.index(name) for name in ("key", "kind", "schema_name", "doc"))


class Prepared(NamedTuple):
    """A valid record as rows. See ``cubeport.catalog.backend.Prepared``."""

    row: tuple[Any, ...]
    """The values of ``ROW`` but the last, the generation, which only the transaction knows."""
    derived: Derived

    @classmethod
    def of(cls, record: CatalogRecord) -> Self:
        """Return the rows of a record. Raises InvalidRequest if it is too large."""
        document, text = storable(record)
        return cls(record_row(document, text), Derived.of(document))

    @property
    def id(self) -> str:
        """The record's id."""
        found: str = self.row[0]
        return found

    @property
    def kind(self) -> str:
        """The record's kind."""
        found: str = self.row[_KIND]
        return found

    @property
    def schema_name(self) -> str | None:
        """The name of the record's schema."""
        found: str | None = self.row[_SCHEMA]
        return found

    def record(self) -> CatalogRecord:
        """Return the record itself."""
        return read_record(self.row[_DOC])


# --- in another process -----------------------------------------------------------------------------------------------

_HERE = 3
"""How many batches are always prepared in this process. Another one has not started before these are done."""
_AHEAD = 4
"""How many batches may be on their way, about 3 MB each."""
_LENGTH = struct.Struct(">Q")


@contextlib.contextmanager
def preparing(batches: Iterable[Lines]) -> Iterator[Iterator[Sequence[Prepared]]]:
    """Yield the records of each batch as rows, in order.

    The rows of many batches are made in another process, because making them takes as long as inserting them. If it cannot start,
    or ends, the rest is prepared here.
    """
    coming = iter(batches)
    first = list(islice(coming, _HERE))
    following = next(coming, None)
    if following is None or (os.cpu_count() or 1) < 2:
        yield map(_prepare, chain(first, () if following is None else (following,), coming))
        return
    with _Helper() as helper, ThreadPoolExecutor(1) as thread:
        # The thread only waits for the pipes, so that the helper works while this process inserts.
        yield chain(map(_prepare, first), _in_order(chain((following,), coming), helper, thread))


def _in_order(batches: Iterator[Lines], helper: _Helper, thread: ThreadPoolExecutor) -> Iterator[Sequence[Prepared]]:
    waiting: deque[tuple[Lines, Any]] = deque()
    while True:
        while len(waiting) < _AHEAD and (batch := next(batches, None)) is not None:
            waiting.append((batch, thread.submit(helper.ask, batch)))
        if not waiting:
            return
        batch, answer = waiting.popleft()
        found = answer.result()
        # A batch with a fault is read again here, which raises the error.
        yield _prepare(batch) if found is None else [Prepared(row, Derived(*rest)) for row, rest in marshal.loads(found)]  # noqa: S302  # of our own process


def _prepare(batch: Lines) -> list[Prepared]:
    return [Prepared.of(each) for each in read_records(batch.texts, first=batch.first)]


class _Helper:
    """Our own interpreter, not a fork of this one, which may have threads, nor ``multiprocessing``, which would run the user's
    script again. It ends when its input does, so also when this process is killed.
    """

    def __enter__(self) -> Self:
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603  # our own module, no shell
                [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is for this process, which then ends the helper
            )
        return self

    def ask(self, batch: Lines) -> bytes | None:
        """Return the rows of a batch; ``None`` if the batch has a fault, or if there is no helper (any more)."""
        if self._process is None:
            return None
        assert self._process.stdin is not None, "it was opened with pipes"
        assert self._process.stdout is not None, "it was opened with pipes"
        try:
            _send(self._process.stdin, marshal.dumps((batch.first, list(batch.texts))))
            return _receive(self._process.stdout)
        except (OSError, ValueError):
            return None

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes


def _send(pipe: BinaryIO | Any, data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: BinaryIO | Any) -> bytes | None:
    """Return the next message, ``None`` for an empty one or at the end."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data: bytes = pipe.read(length)
    return data if length and len(data) == length else None


def serve() -> None:
    """Answer batches on standard input until it ends. The answer to a batch with a fault is empty."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    gc.disable()  # nothing here makes cycles, and looking for them took a seventh of the time
    while (data := _receive(asked)) is not None:
        first, texts = marshal.loads(data)  # noqa: S302  # of our own process
        try:
            found = [(each.row, tuple(each.derived)) for each in _prepare(Lines(first, texts))]
        except CubeportError:
            _send(answers, b"")
        else:
            _send(answers, marshal.dumps(found))
