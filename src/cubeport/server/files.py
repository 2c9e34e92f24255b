"""Parts of files as bodies, which the kernel sends from its own memory, so that Python never handles their bytes.

An ASGI application can send a :class:`FilePart` instead of a body if the scope has :data:`EXTENSION`. The edge sends it. It also
sends an :class:`Answer`, which the application gives without a task if it can answer a request at once.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

EXTENSION = "cubeport.files"
"""The key in ``scope["extensions"]`` if the connection can send parts of files."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The bytes *begin* to *begin* + *count* of an open file. The caller that opened it closes it after the part is sent."""

    descriptor: int
    begin: int
    count: int

    def __len__(self) -> int:
        return self.count

    def rest(self, sent: int) -> bytes:
        """Return the bytes after the first *sent* bytes; fewer if the file became shorter."""
        return os.pread(self.descriptor, self.count - sent, self.begin + sent)


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    lines: bytes
    """Its header lines, each with its end."""
    body: bytes | bytearray | FilePart = b""
    file: BinaryIO | None = None
    """The open file of the body. The sender of the answer closes it."""


type Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Asked:
    """The head of a request. What is read from it is read once, because the same bytes are often sent again."""

    method: bytes
    target: bytes
    headers: Headers
    """With names in lower case."""

    @cached_property
    def names(self) -> frozenset[bytes]:
        """The names of its headers."""
        return frozenset(name for name, _ in self.headers)

    @cached_property
    def tag(self) -> bytes | None:
        """The only ``If-None-Match``."""
        tags = [value for name, value in self.headers if name == b"if-none-match"]
        return tags[0] if len(tags) == 1 else None

    @cached_property
    def text(self) -> str:
        """The target, for the log."""
        return self.target.decode("latin-1")


type AtOnce = Callable[[Asked, str], Answer | None]
"""Returns the answer to a request of a peer; ``None`` if a task must answer it, because it has a body, waits for something, or is
an error.
"""


def lines(headers: Headers) -> bytes:
    """Return headers as the lines of an answer."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Found(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted"))


def _declared() -> Any:
    """Return syscall(2) declared for cachestat, or ``None`` if this is not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    call = ctypes.CDLL(None).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
    call.restype = ctypes.c_long
    return call


_SYSCALL = _declared()
_CACHESTAT = 451
"""The number of cachestat on all architectures, because system calls from 424 on are shared."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def is_cached(part: FilePart) -> bool:
    """Return whether the part can be sent without waiting for the disk (cachestat, Linux 6.5). ``False`` if the kernel cannot
    tell.
    """
    if _SYSCALL is None or not part.count:
        return False
    asked, found = _Range(part.begin, part.count), _Found()
    if _SYSCALL(_CACHESTAT, part.descriptor, ctypes.addressof(asked), ctypes.addressof(found), 0) != 0:
        return False
    return bool(found.cached >= (part.begin + part.count - 1) // _PAGE - part.begin // _PAGE + 1)
