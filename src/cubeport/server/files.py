"""Parts of files as bodies: the kernel sends them from its own memory, and Python never sees their bytes.

An ASGI application may send a :class:`FilePart` where a body goes when the scope says so (:data:`EXTENSION`); the edge sends it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any

EXTENSION = "cubeport.files"
"""In ``scope["extensions"]`` where the connection sends parts of files."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The bytes *begin* to *begin* + *count* of an open file; the caller that opened it closes it once the part is sent."""

    descriptor: int
    begin: int
    count: int

    def __len__(self) -> int:
        return self.count

    def rest(self, sent: int) -> bytes:
        """Return what is left behind the first *sent* bytes; less where the file has become shorter."""
        return os.pread(self.descriptor, self.count - sent, self.begin + sent)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Found(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted"))


def _declared() -> Any:
    """Return syscall(2) as cachestat needs it, or ``None`` off Linux."""
    if not sys.platform.startswith("linux"):
        return None
    call = ctypes.CDLL(None).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
    call.restype = ctypes.c_long
    return call


_SYSCALL = _declared()
_CACHESTAT = 451
"""Its number on every architecture: system calls from 424 on are shared."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def is_cached(part: FilePart) -> bool:
    """Return whether sending the part waits for no disk (cachestat, Linux 6.5). ``False`` where the kernel does not say."""
    if _SYSCALL is None or not part.count:
        return False
    asked, found = _Range(part.begin, part.count), _Found()
    if _SYSCALL(_CACHESTAT, part.descriptor, ctypes.addressof(asked), ctypes.addressof(found), 0) != 0:
        return False
    return bool(found.cached >= (part.begin + part.count - 1) // _PAGE - part.begin // _PAGE + 1)
