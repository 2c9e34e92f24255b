"""Both children on several machines: workers of an executor write disjoint units of chunks, then one cube, and read them back.

The worker reads the sources in a confined child of its own, exactly as this machine would. It writes to a folder of its own below
the staging folder of the operation, so a unit that is made a second time never meets what was left of the first. Nothing of it
counts until this process, which has the lock of the dataset, has compared the answers and has moved the objects that they name.

::

    staging/<operation>/units/mark     exists while the operation wants the units
    staging/<operation>/units/<id>/    what one attempt at one unit wrote, or read back of it
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field, RootModel

from cubeport.adapters.engines.disk import Disk, Levels
from cubeport.adapters.engines.manifest import CUBE, by_folder
from cubeport.adapters.gate.answers import Answer, believed
from cubeport.adapters.sandbox import wire
from cubeport.adapters.sandbox.children import Progress
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk.durable import make_folder, store_errors
from cubeport.catalog.forms.canonical import is_id
from cubeport.cubes import keys
from cubeport.cubes.workload import Block, Box, Made, Runs, Unit, divide, merge, runs_of, share, together
from cubeport.errors import SourceRejected

MARK = "mark"
"""The file that exists while the units are wanted. A worker that no longer sees it stops."""


class Executor(Protocol):
    """Runs orders on workers, each at least once."""

    def width(self) -> int:
        """Return how many orders are done at the same time; 1 if nobody knows."""

    def run(
        self,
        orders: Sequence[Mapping[str, Any]],
        *,
        progress: Callable[[Collection[int]], None],
        stop: Callable[[], None],
    ) -> list[Mapping[str, Any]]:
        """Return what :func:`cubeport.adapters.executors.worker.make` returned for each order, in order, up to the first error.

        Parameters
        ----------
        progress
            Called again and again with the numbers of the orders that are done. If it raises, the rest is given up.
        stop
            Called to give up: it makes running orders end.

        Raises
        ------
        ExecutorUnavailable
            If the workers cannot be had, or keep dying.
        """


@dataclass(frozen=True, slots=True)
class Plan:
    """What the first child of this machine says is to be written."""

    arrays: tuple[str, ...]
    """All arrays, in the order of the store."""
    blocks: tuple[Block, ...]
    """Those that are left to write."""
    runs: Mapping[str, Runs]
    """By array, where its values are in the sources, if they are published unchanged."""
    totals: Mapping[str, int]
    """How many values to write of each array."""
    left_out: tuple[str, ...]
    """The variables of the sources that are not in the cube."""

    def reads(self, box: Box) -> bool:
        """Return whether it is known where the values of a box are, or that all sources are needed."""
        runs = self.runs.get(box.array)
        return runs is None or (runs.axis < len(box.start) and bool(runs.of(box)))


@dataclass(frozen=True, slots=True)
class Divided:
    """Has the chunks of a cube written by an executor.

    Parameters
    ----------
    unit_bytes
        About how many decoded bytes a unit has. A smaller cube is not divided.
    """

    executor: Executor
    limits: SourceLimits
    unit_bytes: int

    def write(
        self,
        plan: Plan,
        request: Mapping[str, Any],
        *,
        sources: Sequence[Path],
        read: Sequence[Path],
        target: Path,
        progress: Progress | None,
    ) -> tuple[dict[str, str], tuple[Path, ...]]:
        """Have all chunks of *plan* written to the cube in *target*, which has the metadata.

        Return the digest of each array, and the folders with what workers read back (:mod:`.shares`).

        Raises
        ------
        SourceRejected
            What the first child raises, in the same words.
        Corrupt
            If what the workers made does not fit together. Nothing was merged then.
        ExecutorUnavailable
            If the workers cannot be had.
        """
        self._check(plan, len(sources))
        workers = self.executor.width()
        units = divide(plan.blocks, self.unit_bytes, workers=workers)
        with _folder(target.with_name("units")) as folder:
            order = _Orders(request, sources, read, folder, self.limits)
            parts = self._checks(sources, workers)
            told = _Told(progress, "checking", [len(part) for part in parts])
            self._run([order.verify(part, plan.left_out) for part in parts], told, folder)
            told = _Told(progress, "writing", [unit.size for unit in units])
            answers = self._run([order.write(unit, plan, target) for unit in units], told, folder)
            chunks = [believed(_ChunksAnswer, each["result"]) for each in answers]
            made = [[each.value() for each in answer.chunks] for answer in chunks]
            digests = merge(units, made, list(dict.fromkeys(each.box.array for each in plan.blocks)))
            with store_errors("put the units together"):
                for answer, part in zip(answers, made, strict=True):
                    _move(folder / _checked(answer["folder"]) / CUBE, target / CUBE, part)
            shares = tuple(folder / _checked(each["share"]) for each in answers)
        return digests, shares

    def _checks(self, sources: Sequence[Path], workers: int) -> list[list[Path]]:
        """Return the sources in groups, each of which one worker checks."""
        weights = [(each.lstat().st_size, 1) for each in sources]
        most = self.unit_bytes // 2, _VERIFIED
        needed = max(math.ceil(sum(size for size, _ in weights) / most[0]), math.ceil(len(sources) / _VERIFIED))
        return together(sources, weights, share(needed, min(workers, len(sources)), workers), most=most)

    def _check(self, plan: Plan, sources: int) -> None:
        """Refuse names that no array has and more chunks than may be: a source may have controlled the child that said so."""
        named = all(keys.is_node(name) for name in plan.arrays) and len({*plan.arrays}) == len(plan.arrays)
        named = named and plan.totals.keys() == {*plan.arrays}
        fits = all(run.source < sources for runs in plan.runs.values() for run in runs.parts) and all(
            box.array in plan.arrays and len(box.start) == len(box.stop) and chunks <= box.volume and plan.reads(box)
            for box, chunks, _ in plan.blocks
        )
        if not (named and fits):
            raise SourceRejected("the process that read it gave no valid answer", reason="crashed")
        self.limits.check("chunks", sum(each.box.volume for each in plan.blocks), "the chunks of the cube")

    def _run(self, orders: Sequence[Mapping[str, Any]], told: _Told, folder: Path) -> list[Mapping[str, Any]]:
        """Return the answers. Raises the first error among them."""
        answers = self.executor.run(orders, progress=told, stop=partial((folder / MARK).unlink, missing_ok=True))
        for each in answers:
            if "error" in each:
                raise wire.error_from_mapping(each["error"])
        return answers


_VERIFIED = 8
"""How many sources one worker checks at a time, at most, before any of their values are read."""


@dataclass(frozen=True, slots=True)
class _Orders:
    """Makes orders for workers, as plain values. Paths are those of this machine, and must lead to the same files there."""

    request: Mapping[str, Any]
    sources: Sequence[Path]
    read: Sequence[Path]
    folder: Path
    limits: SourceLimits

    def verify(self, sources: Sequence[Path], left_out: Sequence[str]) -> dict[str, Any]:
        return self._order("verify", {"group": self.request["group"], "left_out": list(left_out)}, sources)

    def write(self, unit: Unit, plan: Plan, target: Path) -> dict[str, Any]:
        """Return the order to write a unit, with only the sources that it needs, and to read it back without any."""
        names = {box.array for box in unit.boxes}
        totals = {name: plan.totals[name] for name in names}
        return self._written(unit, plan.runs, target) | {
            "check": {"cube": str(target), "arrays": list(plan.arrays), "totals": totals}
        }

    def _written(self, unit: Unit, known: Mapping[str, Runs], target: Path) -> dict[str, Any]:
        boxes = [list(box) for box in unit.boxes]
        runs = runs_of(unit, known)
        if runs is None:
            return self._order("write", {**self.request, "boxes": boxes}, self.sources)
        needed = sorted({run.source for _, parts in runs.values() for run in parts})
        told = {
            name: [axis, [[run.start, run.length, needed.index(run.source), run.name] for run in parts]]
            for name, (axis, parts) in runs.items()
        }
        asked = {name: self.request[name] for name in ("group", "variables", "normalise")}
        request = {**asked, "boxes": boxes, "runs": told, "cube": str(target / CUBE)}
        return self._order("write-runs", request, [self.sources[number] for number in needed], read=[target])

    def _order(
        self, task: str, request: Mapping[str, Any], sources: Sequence[Path], *, read: Sequence[Path] | None = None
    ) -> dict[str, Any]:
        return {
            "version": version("cubeport"),
            "task": task,
            "request": request,
            "sources": [[str(each), *seen(each)] for each in sources],
            "read": [str(each) for each in (self.read if read is None else read)],
            "folder": str(self.folder),
            "limits": self.limits.to_mapping(),
        }


def seen(path: Path) -> list[int]:
    """Return what tells a source from another state of it on all machines that see it: size, and time of change in ns."""
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns] if stat.S_ISREG(status.st_mode) else []


class _Told:
    """Reports how much of the orders is done."""

    def __init__(self, progress: Progress | None, phase: str, sizes: Sequence[int]) -> None:
        self._progress, self._phase, self._sizes = progress, phase, sizes

    def __call__(self, done: Collection[int]) -> None:
        if self._progress is not None:
            self._progress(self._phase, sum(self._sizes[number] for number in done), sum(self._sizes))


type _Index = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)]
type _Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Chunk(RootModel[tuple[str, _Index, _Sha256, Annotated[int, Field(ge=1)] | None]]):
    def value(self) -> Made:
        array, index, digest, size = self.root
        return Made(array, tuple(index), digest, size)


class _ChunksAnswer(Answer):
    chunks: Annotated[list[_Chunk], Field(max_length=1_000_000)]


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """Make the folder of the units, and its mark for the duration of the block."""
    mark = path / MARK
    with store_errors("make a folder for workers"):
        make_folder(path)
        mark.write_bytes(b"")
    try:
        yield path
    finally:
        mark.unlink(missing_ok=True)


def _checked(name: object) -> str:
    """Return the name of the folder that a worker made. Raises SourceRejected for any other name."""
    if not isinstance(name, str) or not is_id(name):
        raise SourceRejected("a worker gave no valid answer", reason="crashed")
    return name


def _move(made: Path, target: Path, chunks: Sequence[Made]) -> None:
    """Move the objects of *chunks* from the cube *made* to the cube *target*, neither of them through a link.

    Raises
    ------
    SourceRejected
        ``unsafe``, if an object is missing, is not a regular file, or has another length than the worker said.
    """
    sizes: dict[str, int] = {keys.chunk(each.array, each.index): each.size for each in chunks if each.size is not None}
    with _without_links(), closing(Levels(made)) as from_, closing(Levels(target, Disk())) as to:
        for folder, names in by_folder(sizes):
            goal, source = to.open(folder.parts), None
            with suppress(FileNotFoundError):
                source = from_.open(folder.parts)
            for key in names:
                name = key.rpartition("/")[2]
                if source is None or not _arrived(name, source, sizes[key]):
                    raise SourceRejected(f"{key!r} did not arrive as the worker wrote it", reason="digest-mismatch")
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=goal)


@contextmanager
def _without_links() -> Iterator[None]:
    """Refuse a link in the place of a folder: only a child that a source controls makes one."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise SourceRejected("a folder of chunks is not a folder", reason="unsafe") from error
        raise


def _arrived(name: str, folder: int, size: int) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == size
