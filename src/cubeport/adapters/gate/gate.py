"""The port ``Gate`` with two confined children: the first reads the sources and writes, the second checks without access to
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, RootModel

from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Lying, sources_of
from cubeport.adapters.gate.answers import Answer, believed
from cubeport.adapters.gate.divided import Divided, Plan
from cubeport.adapters.gate.objects import InMemory, from_bytes, put, unpack
from cubeport.adapters.sandbox.children import Children, Progress, open_source
from cubeport.adapters.sources.identity import identity, modified_at
from cubeport.catalog.disk.durable import store_errors
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.excerpt import Needs, union
from cubeport.cubes.keys import METADATA
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.update import StepsChange
from cubeport.cubes.workload import Block, Box, Run, Runs
from cubeport.cubes.write_request import (
    Base,
    Bring,
    Measured,
    Pointed,
    ReadRequest,
    SourceFile,
    Staging,
    StoreObject,
    Verify,
    WriteRequest,
    Written,
    marks_of,
)
from cubeport.errors import Cancelled, CubeportError, Interrupted, NoSpace, SourceRejected, StoreUnavailable

_LOG = logging.getLogger("cubeport.gate")

type _Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
type _Words = Annotated[str, Field(max_length=2_000)]


class ConfinedGate:
    """The only way for data to enter an instance.

    Parameters
    ----------
    children
        Runs the tasks. It is closed together with the gate.
    divided
        Shares the chunks of a large write among the workers of an executor; without it, one child writes all.
    """

    def __init__(self, children: Children, *, divided: Divided | None = None) -> None:
        self._children = children
        self._divided = divided

    def identify(self, sources: Sequence[Path]) -> tuple[Mapping[str, Any], ...]:
        """Return ``name, size_bytes, sha256, modified_at`` of each source, read as bytes and never decoded.

        Raises
        ------
        SourceRejected
            ``unsafe``, for a link, a device, or a folder that contains one; ``not-allowed``, if it may not be read.
        NotFound
            If it does not exist.
        """
        found = []
        for path in sources:
            with open_source(path) as descriptor:
                found.append(identity(path.name, descriptor))
        return tuple(found)

    def write(self, order: WriteRequest, *, progress: Progress | None = None) -> Written:
        """Run the first child over the sources; see :class:`~cubeport.service.ports.Gate`."""
        request = _asked(order) | {
            "target": str(order.target),
            "storage": order.storage,
            "base": None if order.base is None else _told(order.base),
        }
        if order.keep is not None and self._is_small(order):
            with _or_apart():
                return self._write_kept(request, order, order.keep, progress)
        read = [] if order.base is None else _readable(order.base)
        divided = self._divided if _can_be_divided(order) else None
        said = self._children.run(
            "write",
            request if divided is None else request | {"divide_above": divided.unit_bytes},
            sources=order.sources,
            read=read,
            write=[order.target],
            progress=progress,
            bring=_brought(order.base),
        )
        written = _written(said, tuple(map(_identity, order.held)))
        if divided is None or not (plan := _planned(said)).blocks:
            return written
        digests, shares = divided.write(plan, request, sources=order.sources, read=read, target=order.target, progress=progress)
        return replace(written, digests=_in_order({**written.digests, **digests}, plan.arrays), shares=shares)

    def _write_kept(self, request: Mapping[str, Any], order: WriteRequest, keep: str, progress: Progress | None) -> Written:
        """Run the first child of those that are kept."""
        contents, identities = zip(*map(_contents, order.sources), strict=True)
        said, given = self._children.run_kept(
            "write",
            {**request, "target": None},
            keep=keep,
            contents=[(path.name, data) for path, data in zip(order.sources, contents, strict=True)],
            read=_home(order.base),
            progress=progress,
        )
        return replace(_written(said, identities), given=from_bytes(given), keep=keep)

    def _is_small(self, order: WriteRequest) -> bool:
        """Return whether a kept child can write it: from small files, and nothing else but the folder of its dataset."""
        if order.storage != "copy" or order.functions or len(order.sources) > _KEPT_SOURCES:
            return False
        if self._divided is not None and self._divided.unit_bytes < self._children.limits.kept_bytes:
            return False  # it may be large enough for workers
        if order.base is not None and (order.base.bring is not None or sources_of(order.base.folder)):
            return False
        found = [os.lstat(each) for each in order.sources if each.exists()]
        return all(stat.S_ISREG(each.st_mode) for each in found) and (
            sum(each.st_size for each in found) <= self._children.limits.kept_source_bytes
        )

    def needs(self, order: ReadRequest, held: Sequence[tuple[str, str]]) -> Needs:
        """Run a child over excerpts of the sources; see :class:`~cubeport.service.ports.Gate`."""
        request = _asked(order) | {"held": [list(each) for each in held]}
        answer = believed(_NeedsAnswer, self._children.run("needs", request, sources=order.sources))
        return Needs({path: tuple(map(union, dims)) for path, dims in answer.arrays.items()}, tuple(answer.whole))

    def hold(self, sources: Sequence[Path]) -> tuple[SourceFile, ...]:
        """Return what tells each source from each other state of it, its digest with it. Raises SourceRejected for a folder."""
        return tuple(map(_held, sources))

    def measure(
        self,
        written: Path,
        expected: Written,
        *,
        fields: Sequence[str] | None = None,
        base: Base | None = None,
        arrived: bool = False,
        held: Sequence[SourceFile] = (),
        pointed: Sequence[Pointed] = (),
        verify: Verify = "full",
        time_label: TimeLabel = "start",
        years: tuple[int, int] | None = None,
        progress: Progress | None = None,
    ) -> Measured:
        """Run the second child over the output of the first; see :class:`~cubeport.service.ports.Gate`."""
        request: dict[str, Any] = {
            "target": str(written),
            "digests": None if arrived else dict(expected.digests),
            "fields": None if fields is None else list(fields),
            "base": None if base is None else _told(base),
            "change": None if expected.change is None else asdict(expected.change),
            "held": [list(each) for each in held],
            "listed": [list(Lying.of(each)) for each in pointed or held],
            "verify": verify,
            "time_label": time_label,
            "years": None if years is None else list(years),
        }
        if expected.given is not None:
            with _or_apart():
                return self._measure_kept(request, written, expected, base, progress)
            unpack(expected.given, written / CUBE)
        read = [] if base is None else _readable(base)
        sources = [Path(each.path) for each in held]
        said = self._children.run(
            "measure",
            request | {"checked": [str(each) for each in expected.shares]},
            sources=sources,
            read=[*read, *expected.shares],
            write=[written],
            progress=progress,
            bring=_brought(base),
        )
        return _measured(said)

    def _measure_kept(
        self, request: Mapping[str, Any], into: Path, expected: Written, base: Base | None, progress: Progress | None
    ) -> Measured:
        """Run the second child of those that are kept, and write what it has checked *into* the folder."""
        assert expected.given is not None
        assert expected.keep is not None
        said, given = self._children.run_kept(
            "measure",
            {**request, "target": None},
            keep=expected.keep,
            contents=[(CUBE, InMemory(expected.given).to_bytes())],
            read=_home(base),
            progress=progress,
        )
        measured, made = _measured(said), from_bytes(given)
        if made.keys() != {METADATA, MANIFEST}:
            raise SourceRejected("the process that checked it gave no valid answer", reason="crashed")
        with store_errors("write the data"):
            unpack({**expected.given, METADATA: made[METADATA]}, into / CUBE)
            put(into / MANIFEST, made[MANIFEST])
        return measured

    def overviews(self, staging: Staging, digest: str, cube: CubeDescription, *, version: Path | None = None) -> None:
        """Let a child write the overviews of the assembled cube; see :class:`~cubeport.service.ports.Gate`."""
        made = staging.root / "data" if version is None else version
        request = {
            "folder": str(made),
            "digest": digest,
            "brings": staging.bring is not None,
            "description": cube.model_dump(mode="json"),
            "base": None if staging.base is None else str(staging.base),
            "target": str(staging.new),
        }
        read = [made, *_pointed(made), *([] if staging.base is None else [staging.base])]
        bring = {} if staging.bring is None else {str(made): partial(staging.bring, made)}
        believed(Answer, self._children.run("overviews", request, read=read, write=[staging.new], bring=bring))

    def copy(self, staging: Staging, digest: str, cube: CubeDescription, *, version: Path | None = None) -> None:
        """Let a child write the NetCDF-4 copy of the assembled cube; see :class:`~cubeport.service.ports.Gate`."""
        made = staging.root / "data" if version is None else version
        request = {
            "folder": str(made),
            "digest": digest,
            "brings": staging.bring is not None,
            "description": cube.model_dump(mode="json"),
            "target": str(staging.new),
        }
        bring = {} if staging.bring is None else {str(made): partial(staging.bring, made)}
        believed(Answer, self._children.run("copy", request, read=[made, *_pointed(made)], write=[staging.new], bring=bring))

    def derive(
        self,
        recipe: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, tuple[Path, Bring | None, CubeDescription]],
        into: Path,
        *,
        function: str | None,
    ) -> Path:
        """Compute a recipe in a child and return the result that it wrote below *into*. Raises what the recipe raises.

        *inputs* are folders with versions, by name, with the function that brings objects that are not there yet.
        """
        request = {
            "recipe": recipe,
            "params": dict(params),
            "function": function,
            "into": str(into),
            "inputs": {
                name: {
                    "folder": str(folder),
                    "brings": bring is not None,
                    "description": description.model_dump(mode="json"),
                }
                for name, (folder, bring, description) in inputs.items()
            },
        }
        read = [each for folder, _, _ in inputs.values() for each in (folder, *_pointed(folder))]
        bring = {str(folder): partial(bring, folder) for folder, bring, _ in inputs.values() if bring is not None}
        said = self._children.run("derive", request, read=read, write=[into], bring=bring)
        return into / believed(_DeriveAnswer, said).file

    def close(self) -> None:
        """Stop the children. Idempotent."""
        self._children.close()


_KEPT_SOURCES = 64


@contextlib.contextmanager
def _or_apart() -> Iterator[None]:
    """Go on after the block if a kept child refuses, so that a refusal comes from a process that served nothing before."""
    try:
        yield
    except (Cancelled, Interrupted, NoSpace, StoreUnavailable):
        raise
    except CubeportError as error:
        _LOG.debug("a kept child refused, so a new one is asked: %s", error)


def _home(base: Base | None) -> list[Path]:
    """Return the folder that kept children of an update read: that of all versions of its dataset."""
    return [] if base is None else [base.folder.parent]


def _contents(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a small source and what it is. Raises SourceRejected if it changes meanwhile."""
    with open_source(path) as descriptor:
        before = os.fstat(descriptor)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(before.st_size + 1)
        if len(data) != before.st_size or marks_of(before) != marks_of(os.fstat(descriptor)):
            raise SourceRejected.changed(path.name)
    sha256 = hashlib.sha256(data).hexdigest()
    stamp = modified_at(before.st_mtime)
    return data, {"name": path.name, "size_bytes": len(data), "sha256": sha256, "modified_at": stamp}


def _can_be_divided(order: WriteRequest) -> bool:
    """Return whether workers can do a part: all that is read is in files, and all that is written is a copy."""
    return order.storage == "copy" and (order.base is None or order.base.bring is None)


def _in_order(digests: Mapping[str, str], arrays: Sequence[str]) -> dict[str, str]:
    """Return the digest of each array, in the order of the store. Raises SourceRejected unless each has one."""
    if digests.keys() != set(arrays):
        raise SourceRejected("the process that read it gave no valid answer", reason="crashed")
    return {name: digests[name] for name in arrays}


def _planned(said: Mapping[str, Any]) -> Plan:
    """Return what is left to write; nothing if the child has written it."""
    answer = believed(_WriteAnswer, said)
    blocks = tuple(each.value() for each in answer.blocks)
    runs = {name: each.value() for name, each in answer.runs.items()}
    return Plan(answer.arrays, blocks, runs, answer.totals, answer.left_out)


def _written(said: Mapping[str, Any], identities: tuple[Mapping[str, Any], ...]) -> Written:
    answer = believed(_WriteAnswer, said)
    return Written(
        digests=answer.digests,
        warnings=tuple(answer.warnings),
        change=None if answer.change is None else answer.change.value(),
        sources=identities or tuple(each.model_dump() for each in answer.sources),
    )


def _measured(said: Mapping[str, Any]) -> Measured:
    answer = believed(_MeasureAnswer, said)
    return Measured(
        description=answer.description,
        documents=answer.documents,
        files=answer.files,
        size_bytes=answer.size_bytes,
        digest=answer.digest,
    )


class _Identity(Answer):
    name: Annotated[str, Field(max_length=1_024)]
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: _Sha256
    modified_at: Annotated[str, Field(max_length=40)]


class _Change(Answer):
    dimension: Annotated[str, Field(max_length=128)]
    length: Annotated[int, Field(ge=0)]
    kept: Annotated[list[tuple[int, int]], Field(max_length=10_000)]
    added: Annotated[int, Field(ge=0)]
    replaced: Annotated[int, Field(ge=0)]

    def value(self) -> StepsChange:
        return StepsChange(self.dimension, self.length, tuple(self.kept), self.added, self.replaced)


def _asked(order: ReadRequest) -> dict[str, Any]:
    return {
        "window": asdict(order.window),
        "variables": None if order.variables is None else list(order.variables),
        "attributes": dict(order.attributes),
        "chunks": None if order.chunks is None else dict(order.chunks),
        "append_dim": order.append_dim,
        "group": order.group,
        "normalise": [dict(step) for step in order.normalise],
        "transforms": [dict(step) for step in order.transforms],
        "functions": dict(order.functions),
        "skip_bad": order.skip_bad,
        "on_overlap": order.on_overlap,
    }


def _told(base: Base) -> dict[str, Any]:
    ranges = {name: list(values) for name, values in base.ranges.items()}
    return {
        "folder": str(base.folder),
        "digest": base.digest,
        "brings": base.bring is not None,
        "ranges": ranges,
        "empty": [list(base.empty[0]), base.empty[1]],
        "notes": [list(each) for each in base.notes],
        "on_overlap": base.on_overlap,
    }


def _brought(base: Base | None) -> dict[str, Callable[[str], None]]:
    """Return the function that brings objects of an update's base, by its folder."""
    return {} if base is None or base.bring is None else {str(base.folder): partial(base.bring, base.folder)}


def _readable(base: Base) -> list[Path]:
    return [base.folder, *_pointed(base.folder)]


def _pointed(folder: Path) -> list[Path]:
    """Return the files that a version points into and that are still what they were: a child may read these."""
    found = []
    for each in sources_of(folder).values():
        if isinstance(each, StoreObject):
            continue  # a child has no network, and refuses when it needs it
        with contextlib.suppress(OSError):  # what is not there any more, the child tells when it needs it
            if marks_of(os.lstat(each.path)) == each.marks:
                found.append(Path(each.path))
    return found


_SETTLED_S = 0.05
"""How long a file must have been left alone: the times of a file system tick, by 4 ms often, and within a tick no change shows."""


def _held(path: Path) -> SourceFile:
    with open_source(path) as descriptor:
        before = os.fstat(descriptor)
        if stat.S_ISDIR(before.st_mode):
            raise SourceRejected(
                f"{path.name} is a folder, and only NetCDF and HDF5 files are read where they lie",
                reason="not-virtual",
                source=path.name,
                next_step="copy it: --storage copy",
            )
        age = time.time() - max(before.st_mtime, before.st_ctime)
        if 0 <= age < _SETTLED_S:
            time.sleep(_SETTLED_S - age)
        found = identity(path.name, descriptor)
        after = os.fstat(descriptor)
        if marks_of(before) != marks_of(after):
            raise SourceRejected.changed(path.name)
        return SourceFile(str(path), *marks_of(after), found["sha256"])


def _identity(held: SourceFile) -> dict[str, Any]:
    return {
        "name": Path(held.path).name,
        "size_bytes": held.size,
        "sha256": held.sha256,
        "modified_at": modified_at(held.mtime_ns / 1e9),
    }


class _DeriveAnswer(Answer):
    file: Annotated[str, Field(pattern=r"^[a-z]+\.zarr$")]


type _Name = Annotated[str, Field(max_length=1_024)]
type _Whole = Annotated[int, Field(ge=0)]
type _Run = tuple[_Whole, _Whole, _Whole, _Name]
type _Place = Annotated[list[_Whole], Field(max_length=64)]


class _Block(RootModel[tuple[_Name, _Place, _Place, _Whole, _Whole]]):
    def value(self) -> Block:
        name, start, stop, chunks, size = self.root
        return Block(Box(name, tuple(start), tuple(stop)), chunks, size)


class _Runs(RootModel[tuple[_Whole, Annotated[int, Field(ge=1)], Annotated[list[_Run], Field(max_length=1_000_000)]]]):
    def value(self) -> Runs:
        axis, chunk, parts = self.root
        return Runs(axis, chunk, tuple(Run(*each) for each in parts))


class _WriteAnswer(Answer):
    arrays: Annotated[tuple[_Name, ...], Field(max_length=10_000)] = ()
    blocks: Annotated[tuple[_Block, ...], Field(max_length=1_000_000)] = ()
    runs: Annotated[dict[_Name, _Runs], Field(max_length=10_000)] = Field(default_factory=dict)
    totals: Annotated[dict[_Name, _Whole], Field(max_length=10_000)] = Field(default_factory=dict)
    left_out: Annotated[tuple[_Name, ...], Field(max_length=10_000)] = ()
    change: _Change | None = None
    digests: Annotated[dict[str, _Sha256], Field(max_length=10_000)]
    warnings: Annotated[list[tuple[_Words, _Words]], Field(max_length=10_000)]
    sources: Annotated[list[_Identity], Field(max_length=100_000)]


type _Range = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
type _Ranges = Annotated[list[_Range], Field(max_length=1_000_000)]


class _NeedsAnswer(Answer):
    arrays: Annotated[dict[str, Annotated[list[_Ranges], Field(max_length=64)]], Field(max_length=10_000)]
    whole: Annotated[list[Annotated[str, Field(max_length=1_024)]], Field(max_length=10_000)]


class _MeasureAnswer(Answer):
    description: CubeDescription
    documents: dict[str, Any]
    files: Annotated[int, Field(ge=1)]
    size_bytes: Annotated[int, Field(ge=0)]
    digest: _Sha256
