"""What a worker of another machine does for an ingestion: one order, in confined children of its own.

An order is a mapping of plain values, and so is its answer, because two releases of cubeport must be able to refuse each other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cubeport.adapters.gate.divided import MARK, seen
from cubeport.adapters.gate.tasks import confined
from cubeport.adapters.sandbox import wire
from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk.durable import make_folder
from cubeport.catalog.forms.canonical import new_id
from cubeport.errors import CubeportError, ExecutorUnavailable, Interrupted, SourceRejected


def make(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do one order and return ``result`` and the ``folder`` with what was written, or ``error``, one of ours as plain values.

    If the order has a ``check``, a second child, which cannot read the sources, reads back what the first wrote, and the answer
    names the folder of its ``share``.

    Raises
    ------
    Interrupted, OSError
        If this machine failed and not the source: the scheduler does the order again.
    """
    try:
        return _made(order)
    except Interrupted:
        raise
    except CubeportError as error:
        return {"error": wire.error_to_mapping(error)}


def _made(order: Mapping[str, Any]) -> Mapping[str, Any]:
    if order["version"] != version("cubeport"):
        raise _unfit(f"has cubeport {version('cubeport')}, and the server {order['version']}", "install the same release on both")
    folder = Path(order["folder"])
    mark = folder / MARK
    if not mark.exists():
        raise _unfit(
            "does not see the data folder of the server, or the ingestion has ended",
            "mount the folder of data_dir at the same path on all workers",
        )
    sources = [Path(path) for path, *_ in order["sources"]]
    for path, (_, *marks) in zip(sources, order["sources"], strict=True):
        _check(path, marks)
    children = _children(SourceLimits.from_mapping(order["limits"]))

    def wanted(*_: object) -> None:
        if not mark.exists():
            raise _ended()

    target = _new(folder)
    result = children.run(
        order["task"],
        {**order["request"], "target": str(target)},
        sources=sources,
        read=[Path(each) for each in order["read"]],
        write=[target],
        progress=wanted,
    )
    answer = {"result": dict(result), "folder": target.name}
    if (check := order.get("check")) is None:
        return answer
    share = _new(folder)
    request = {**check, "made": str(target), "boxes": order["request"]["boxes"], "chunks": result["chunks"], "target": str(share)}
    # Not the folders of the cubes themselves: a source may have put a link in their place.
    children.run("read-back", request, read=[target, Path(check["cube"])], write=[share], progress=wanted)
    return answer | {"share": share.name}


def _new(folder: Path) -> Path:
    """Return a new folder for what one child writes."""
    target = folder / new_id()
    try:
        make_folder(target)
    except PermissionError as error:
        words = f"may not write to the data folder of the server: {error.strerror}"
        raise _unfit(words, "run the workers as the user of the server") from error
    return target


def _check(path: Path, marks: list[int]) -> None:
    """Raise the error for a source that is not here, or is not the file that the server saw."""
    here = None
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        here = seen(path)
    if here is None:
        words = f"does not see the source {path.name}"
        raise _unfit(words, "mount the folders of the sources at the same paths on all workers, for the user of the server")
    if here != marks:
        raise SourceRejected.changed(path.name)


def _ended() -> CubeportError:
    return ExecutorUnavailable("The ingestion has ended, so its units are no longer needed.")


def _unfit(words: str, next_step: str) -> ExecutorUnavailable:
    return ExecutorUnavailable(f"The worker on {socket.gethostname()} {words}.", next_step=next_step)


def _children(limits: SourceLimits) -> Children:
    """Return the confined children of this worker. It decides itself how many run at once, by its cores."""
    return _shared(replace(limits, children=len(os.sched_getaffinity(0))))


@cache
def _shared(limits: SourceLimits) -> Children:
    return confined(limits)
