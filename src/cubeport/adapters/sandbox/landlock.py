"""Landlock through three system calls. After :func:`restrict`, this process can access the given paths and nothing else.

See Linux ``Documentation/userspace-api/landlock.rst``. The numbers are the same on all architectures, because system calls from 424
on are shared.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
WRITE = READ | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR | REFER
"""Regular files and folders only: no link, FIFO, socket or device can be made."""

_FS_BY_ABI = ((1, (1 << 13) - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_NET_BY_ABI = ((4, 0b11),)  # bind and connect of TCP
_SCOPED_BY_ABI = ((6, 0b11),)  # abstract sockets and signals that leave the sandbox


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(frozen=True, slots=True)
class Rules:
    """What stays accessible: descriptors and paths with their rights. Everything else is denied."""

    descriptors: Sequence[tuple[int, int]] = ()
    """(descriptor, rights)."""
    paths: Sequence[tuple[str, int]] = ()
    """(path, rights). Paths that do not exist are ignored."""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set one option of this process (prctl(2))."""
    if _libc().prctl(ctypes.c_int(option), *(ctypes.c_ulong(each) for each in (value, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")


def abi() -> int:
    """Return the Landlock version of the kernel, or 0 if it has none."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except (OSError, AttributeError):
        return 0


def _known(by_abi: Iterable[tuple[int, int]], version: int) -> int:
    rights = 0
    for since, bits in by_abi:
        rights |= bits if version >= since else 0
    return rights


def restrict(rules: Rules) -> int:
    """Confine this process and all that it starts permanently. Return the Landlock version, or 0 if the kernel has none.

    Raises
    ------
    OSError
        If the kernel has Landlock but refuses a call. Untrusted data must not be read then.
    """
    version = abi()
    if not version:
        return 0
    handled = _known(_FS_BY_ABI, version)
    attributes = _Ruleset(handled, _known(_NET_BY_ABI, version), _known(_SCOPED_BY_ABI, version))
    # Older kernels need the shorter struct, or zeros in fields that they do not know.
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint32(0))
    try:
        for descriptor, rights in rules.descriptors:
            _allow(ruleset, descriptor, rights & handled)
        for path, rights in rules.paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                _allow(ruleset, descriptor, rights & handled)
            finally:
                os.close(descriptor)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _FILE_RIGHTS
    rule = _PathBeneath(rights, descriptor)
    _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
