"""The messages between the service and a child: JSON frames, descriptors, and our errors as plain values.

Everything from a child is untrusted, because a source can control it. Sizes are checked before any byte is stored, JSON is strict,
and errors are rebuilt from a list of known kinds.
"""

from __future__ import annotations

import array
import errno
import json
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.catalog.forms.strictjson import strict_json
from cubeport.errors import CubeportError, Problem, kinds

_LENGTH = struct.Struct("!I")
DESCRIPTORS = 128
"""How many descriptors one message contains. The kernel allows 253."""
_WORDS = 4_000
"""How many characters of an error message are kept."""
_MEMBER = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OWN = frozenset(("message", "next_step", "errors", "operation_id", "kind", "title", "detail", "next"))


class Garbled(Exception):
    """The other side sent an invalid message."""


def send(channel: socket.socket, document: Mapping[str, Any]) -> None:
    """Send one frame."""
    body = json.dumps(document, allow_nan=False).encode()
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket, longest: int) -> dict[str, Any] | None:
    """Return the next frame, or ``None`` at the end.

    Raises
    ------
    Garbled
        If the frame is longer than *longest* bytes, incomplete, or not one strict JSON object.
    """
    held = bytearray()
    while (frame := take(held, longest)) is None:
        wanted = _LENGTH.size - len(held) if len(held) < _LENGTH.size else _LENGTH.size + _length(held, longest) - len(held)
        part = channel.recv(min(wanted, 1 << 20))
        if not part:
            if held:
                raise Garbled("a cut frame")
            return None
        held += part
    return frame


def take(held: bytearray, longest: int) -> dict[str, Any] | None:
    """Remove the first complete frame from *held* and return it, or ``None`` if it is incomplete. Raises as :func:`receive`."""
    if len(held) < _LENGTH.size:
        return None
    end = _LENGTH.size + _length(held, longest)
    if len(held) < end:
        return None
    body = bytes(held[_LENGTH.size : end])
    del held[:end]
    return decode(body)


def _length(held: bytearray, longest: int) -> int:
    (length,) = _LENGTH.unpack_from(held)
    if length > longest:
        raise Garbled(f"a frame of {length:,} bytes, over {longest:,}")
    return int(length)


def decode(body: bytes) -> dict[str, Any]:
    """Return the strict JSON object in *body*: UTF-8, no duplicate keys, no NaN."""
    try:
        document = strict_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise Garbled("not strict JSON") from error
    if not isinstance(document, dict):
        raise Garbled("not a JSON object")
    return document


def send_descriptors(channel: socket.socket, descriptors: Sequence[int]) -> None:
    """Send at most :data:`DESCRIPTORS` open descriptors. The other side gets copies."""
    channel.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def receive_descriptors(channel: socket.socket) -> list[int]:
    """Return the descriptors of one message, close-on-exec.

    Raises
    ------
    OSError
        If this process cannot have this many open files.
    """
    _, descriptors, flags, _ = socket.recv_fds(channel, 1, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, "too many sources")
    return descriptors


def error_to_mapping(error: CubeportError) -> dict[str, Any]:
    """Return the plain form of one of our errors."""
    return {
        "kind": error.kind,
        "message": error.message,
        "next_step": error.next_step,
        "errors": [each.to_mapping() for each in error.errors],
        "members": dict(error.members),
    }


def error_from_mapping(value: Any) -> CubeportError:
    """Return the error from the result of :func:`error_to_mapping`, with the same class.

    Raises
    ------
    Garbled
        If *value* does not have this form. The child is then not trusted.
    """
    try:
        cls = next(each for each in kinds() if each.kind == value["kind"])
        members = {_member(key): _plain(each) for key, each in dict(value["members"]).items()}
        next_step = value["next_step"]
        return cls(
            _text(value["message"]),
            next_step=None if next_step is None else _text(next_step),
            errors=[_problem(each) for each in value["errors"][:1_000]],
            **members,
        )
    except (StopIteration, LookupError, TypeError, ValueError, AttributeError) as error:
        raise Garbled("not an error of ours") from error


def _problem(value: Mapping[str, Any]) -> Problem:
    loc = tuple(each if isinstance(each, int) else _text(each) for each in value["loc"])
    return Problem(loc, _text(value["kind"]), _text(value["message"]))


def _member(key: str) -> str:
    if key in _OWN or not _MEMBER.fullmatch(key):
        raise ValueError("not the name of a member")
    return key


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in value[:_WORDS])


def _plain(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {_text(key): _plain(each) for key, each in value.items()}
    return value
