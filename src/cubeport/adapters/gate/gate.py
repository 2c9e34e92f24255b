"""The port ``Gate`` with two confined children: the first reads the sources and writes, the second checks without access to
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cubeport.adapters.sandbox.children import Children, Progress, open_source
from cubeport.adapters.sources.identity import identity
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.update import StepsChange
from cubeport.cubes.write_request import Base, Measured, Staging, WriteRequest, Written
from cubeport.errors import SourceRejected

type _Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
type _Words = Annotated[str, Field(max_length=2_000)]


class ConfinedGate:
    """The only way for data to enter an instance.

    Parameters
    ----------
    children
        Runs the tasks. It is closed together with the gate.
    """

    def __init__(self, children: Children) -> None:
        self._children = children

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
        request = {
            "target": str(order.target),
            "window": asdict(order.window),
            "variables": None if order.variables is None else list(order.variables),
            "attributes": dict(order.attributes),
            "chunks": None if order.chunks is None else dict(order.chunks),
            "append_dim": order.append_dim,
            "group": order.group,
            "normalise": [dict(step) for step in order.normalise],
            "transforms": [dict(step) for step in order.transforms],
            "skip_bad": order.skip_bad,
            "on_overlap": order.on_overlap,
            "base": None if order.base is None else _told(order.base),
        }
        read = [] if order.base is None else [order.base.folder]
        said = self._children.run("write", request, sources=order.sources, read=read, write=[order.target], progress=progress)
        answer = _believed(_WriteAnswer, said)
        return Written(
            digests=answer.digests,
            warnings=tuple(answer.warnings),
            change=None if answer.change is None else answer.change.value(),
            sources=tuple(each.model_dump() for each in answer.sources),
        )

    def measure(
        self,
        written: Path,
        expected: Written,
        *,
        fields: Sequence[str] | None = None,
        base: Base | None = None,
        arrived: bool = False,
        progress: Progress | None = None,
    ) -> Measured:
        """Run the second child over the output of the first; see :class:`~cubeport.service.ports.Gate`."""
        request = {
            "target": str(written),
            "digests": None if arrived else dict(expected.digests),
            "fields": None if fields is None else list(fields),
            "base": None if base is None else _told(base),
            "change": None if expected.change is None else asdict(expected.change),
        }
        read = [] if base is None else [base.folder]
        said = self._children.run("measure", request, read=read, write=[written], progress=progress)
        answer = _believed(_MeasureAnswer, said)
        return Measured(
            description=answer.description,
            documents=answer.documents,
            files=answer.files,
            size_bytes=answer.size_bytes,
            digest=answer.digest,
        )

    def overviews(self, staging: Staging, digest: str, cube: CubeDescription) -> None:
        """Let a child write the overviews of the assembled cube; see :class:`~cubeport.service.ports.Gate`."""
        request = {
            "folder": str(staging.root / "data"),
            "digest": digest,
            "description": cube.model_dump(mode="json"),
            "base": None if staging.base is None else str(staging.base),
            "target": str(staging.new),
        }
        read = [staging.root / "data", *([] if staging.base is None else [staging.base])]
        _believed(_Answer, self._children.run("overviews", request, read=read, write=[staging.new]))

    def derive(
        self,
        recipe: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, tuple[Path, CubeDescription]],
        into: Path,
        *,
        function: str | None,
    ) -> Path:
        """Compute a recipe in a child and return the result that it wrote below *into*. Raises what the recipe raises."""
        request = {
            "recipe": recipe,
            "params": dict(params),
            "function": function,
            "into": str(into),
            "inputs": {
                name: {"folder": str(folder), "description": description.model_dump(mode="json")}
                for name, (folder, description) in inputs.items()
            },
        }
        said = self._children.run("derive", request, read=[folder for folder, _ in inputs.values()], write=[into])
        return into / _believed(_DeriveAnswer, said).file

    def close(self) -> None:
        """Stop the children. Idempotent."""
        self._children.close()


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Identity(_Answer):
    name: Annotated[str, Field(max_length=1_024)]
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: _Sha256
    modified_at: Annotated[str, Field(max_length=40)]


class _Change(_Answer):
    dimension: Annotated[str, Field(max_length=128)]
    length: Annotated[int, Field(ge=0)]
    kept: Annotated[list[tuple[int, int]], Field(max_length=10_000)]
    added: Annotated[int, Field(ge=0)]
    replaced: Annotated[int, Field(ge=0)]

    def value(self) -> StepsChange:
        return StepsChange(self.dimension, self.length, tuple(self.kept), self.added, self.replaced)


def _told(base: Base) -> dict[str, Any]:
    ranges = {name: list(values) for name, values in base.ranges.items()}
    return {"folder": str(base.folder), "digest": base.digest, "ranges": ranges, "on_overlap": base.on_overlap}


class _DeriveAnswer(_Answer):
    file: Annotated[str, Field(pattern=r"^[a-z]+\.zarr$")]


class _WriteAnswer(_Answer):
    change: _Change | None = None
    digests: Annotated[dict[str, _Sha256], Field(max_length=10_000)]
    warnings: Annotated[list[tuple[_Words, _Words]], Field(max_length=10_000)]
    sources: Annotated[list[_Identity], Field(max_length=100_000)]


class _MeasureAnswer(_Answer):
    description: CubeDescription
    documents: dict[str, Any]
    files: Annotated[int, Field(ge=1)]
    size_bytes: Annotated[int, Field(ge=0)]
    digest: _Sha256


def _believed[A: _Answer](model: type[A], fields: Mapping[str, Any]) -> A:
    """Return the answer of a child after validation, because a malicious source can control the child."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise SourceRejected("the process that read it gave no valid answer", reason="crashed") from error
