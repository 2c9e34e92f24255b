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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple, Self

from cubeport.adapters.backends.sql.batch import Batch
from cubeport.catalog.ndjson import Lines, read_records
from cubeport.errors import CubeportError

# --- in another process -----------------------------------------------------------------------------------------------

_HERE = 3
"""How many batches are always prepared in this process. Another one has not started before these are done."""
_AHEAD = 4
"""How many batches may be on their way, about 3 MB each."""
_LENGTH = struct.Struct(">Q")


class _Asked(NamedTuple):
    """A batch that is to be prepared. All of it is simple, so that ``marshal`` can send it."""

    first: int
    texts: list[str]
    numbers: list[int]
    """One for each line, so at least one for each record."""
    known: dict[str, int]
    """The numbers of paths."""

    def prepared(self) -> Batch:
        """Return the records. Raises InvalidRequest, NewerModel."""
        return Batch.of(read_records(self.texts, first=self.first), self.numbers, self.known)


@contextlib.contextmanager
def preparing(
    batches: Iterable[Lines], number: Callable[[int], Sequence[int]], known: Mapping[str, int]
) -> Iterator[Iterator[Batch]]:
    """Yield the records of each batch with all their rows, in order.

    The rows of many batches are made in another process, because making them takes as long as inserting them. If it cannot start,
    or ends, the rest is prepared here.

    Parameters
    ----------
    number
        Returns numbers for so many records, which nothing else gets.
    known
        The numbers of the paths of fields, to which the insertion of a batch adds.
    """

    def asked(batch: Lines) -> _Asked:
        return _Asked(batch.first, list(batch.texts), list(number(len(batch.texts))), dict(known))

    coming = map(asked, batches)
    first = list(islice(coming, _HERE))
    following = next(coming, None)
    if following is None or (os.cpu_count() or 1) < 2:
        yield map(_Asked.prepared, chain(first, () if following is None else (following,), coming))
        return
    with _Helper() as helper, ThreadPoolExecutor(1) as thread:
        # The thread only waits for the pipes, so that the helper works while this process inserts.
        yield chain(map(_Asked.prepared, first), _in_order(chain((following,), coming), helper, thread))


def _in_order(batches: Iterator[_Asked], helper: _Helper, thread: ThreadPoolExecutor) -> Iterator[Batch]:
    waiting: deque[tuple[_Asked, Future[bytes | None]]] = deque()
    made: dict[int, Batch] = {}
    while True:
        while len(waiting) < _AHEAD and (batch := next(batches, None)) is not None:
            waiting.append((batch, thread.submit(helper.ask, batch)))
        if not waiting:
            return
        batch, answer = waiting.popleft()
        while not answer.done() and (late := _not_begun(waiting)) is not None:
            with contextlib.suppress(CubeportError):  # raised in its turn: an earlier batch can have a fault too
                made[late.first] = late.prepared()
        if batch.first in made:
            yield made.pop(batch.first)
            continue
        found = None if answer.cancelled() else answer.result()
        # A batch with a fault is read again here, which raises the error.
        yield batch.prepared() if found is None else Batch(*marshal.loads(found))  # noqa: S302  # of our own process


def _not_begun(waiting: deque[tuple[_Asked, Future[bytes | None]]]) -> _Asked | None:
    """Take the last batch that the helper has not begun, so that this process prepares it instead of waiting."""
    return next((batch for batch, answer in reversed(waiting) if not answer.done() and answer.cancel()), None)


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

    def ask(self, batch: _Asked) -> bytes | None:
        """Return the rows of a batch; ``None`` if the batch has a fault, or if there is no helper (any more)."""
        if self._process is None:
            return None
        assert self._process.stdin is not None, "it was opened with pipes"
        assert self._process.stdout is not None, "it was opened with pipes"
        try:
            _send(self._process.stdin, marshal.dumps(tuple(batch)))
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
        try:
            found = _Asked(*marshal.loads(data)).prepared()  # noqa: S302  # of our own process
        except CubeportError:
            _send(answers, b"")
        else:
            _send(answers, marshal.dumps((found.numbers, found.rows, found.derived, found.unknown)))  # type: ignore[arg-type]  # lists, tuples and scalars
