"""The grid file of a step ``positions``: among the sources by its name, or by its own path or address, by the rules of sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cubeport.catalog.forms.canonical import dumps
from cubeport.cubes.steps import plain
from cubeport.errors import InvalidRequest
from cubeport.service.ingestions import Ingestion, in_full, is_address
from cubeport.service.ports import BringOrder, Progress, Sources
from cubeport.service.templates import SourceBlock
from cubeport.service.wanted import Wanted

_OF_PERIODS = ("url", "store", "zarr", "stac")
"""Kinds of sources that give the data of their address and no other file."""


def with_grid_file(ingestion: Ingestion, wanted: Wanted, sources: Sources) -> Wanted:
    """Return the request with its grid file, or with the source that fetches it, if a step names one by path or address.

    Raises
    ------
    InvalidRequest
        For a bare name beside a source that has no such file; for an address with dates or a query.
    SourceRejected
        ``not-allowed``, ``empty``, as for every source.
    """
    named = _named(wanted)
    if named is None or wanted.grid is not None or wanted.grid_source is not None:
        return wanted
    if not _is_place(named):
        if wanted.source is not None and wanted.block is not None and wanted.block.kind in _OF_PERIODS:
            raise InvalidRequest(
                f"A source of kind {wanted.block.kind} has only the data at its address, so the grid file {named!r} cannot be among"
                " them.",
                next_step="name it by its own address or path in the step:"
                f" `file: https://HOST/{named}` (HOST of sources.origins), or `file: /FOLDER/{named}` (FOLDER below sources.roots)",
            )
        return wanted
    if is_address(named) and ("{" in named or "?" in named or named.startswith("upload:")):
        raise InvalidRequest(
            "A grid file is one file for all periods: its address has neither dates nor a query.",
            next_step="write the address of one file, such as `file: https://HOST/grid.nc`",
        )
    if ingestion.options.files and not is_address(named):
        [path] = sources.own((Path(named),))
        return _beside(wanted, path)
    found = sources.resolve(_block(named), asker=ingestion.asker)
    if not isinstance(found, tuple):
        return replace(wanted, grid_source=found)
    if len(found) != 1:
        raise InvalidRequest(f"The grid file is one file, and {named!r} names {len(found)}.", next_step="write the path of one")
    return _beside(wanted, found[0])


@contextmanager
def fetched_grid_file(ingestion: Ingestion, wanted: Wanted, sources: Sources, progress: Progress) -> Iterator[Wanted]:
    """Yield the request with its grid file, which stays in place until the block ends. What is kept of it, and did not change, is
    used again. Raises what the source raises.
    """
    named = _named(wanted)
    if wanted.grid_source is None or named is None:
        yield wanted
        return
    order = BringOrder(
        # The files of the dataset itself have their own folder, whose lock is taken inside the block.
        dataset_id=f"{wanted.dataset_id}.grid",
        name=f"the grid file {named}",
        source=dumps(_block(named).told()),
        periods=(None,),
        job=ingestion.ingestion_id,
        timeout_s=wanted.fields.ingestion.timeout_s,
        retries=wanted.fields.ingestion.retries,
    )
    with sources.bring(wanted.grid_source, order, progress=progress) as brought:
        [path] = brought.of((None,))
        yield _beside(wanted, path)


def with_files(wanted: Wanted, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the *files* of the data, and the grid file after them. Raises InvalidRequest if both have the same name."""
    if wanted.grid is None or wanted.grid in files:
        return files
    if any(each.name == wanted.grid.name for each in files):
        raise InvalidRequest(
            f"The grid file and a file of the data are both called {wanted.grid.name}, so the step would take one for the other.",
            next_step="rename the grid file",
        )
    return (*files, wanted.grid)


def steps_of(wanted: Wanted) -> tuple[dict[str, Any], ...]:
    """Return the steps of ``normalise`` as the gate knows them, which knows files by their names."""
    steps = plain(wanted.fields.normalise)
    if wanted.grid is None:
        return tuple(steps)
    return tuple(
        {"positions": each["positions"] | {"file": wanted.grid.name}} if each.get("positions", {}).get("file") else each
        for each in steps
    )


def _beside(wanted: Wanted, path: Path) -> Wanted:
    """Return the request with its grid file, which is a source among the local files."""
    wanted = replace(wanted, grid=path)
    return wanted if wanted.source is not None else replace(wanted, files=with_files(wanted, wanted.files))


def _named(wanted: Wanted) -> str | None:
    found: Sequence[str | None] = [each.positions.file for each in wanted.fields.normalise if each.positions is not None]
    return next((each for each in found if each), None)


def _is_place(name: str) -> bool:
    return is_address(name) or "/" in name


def _block(named: str) -> SourceBlock:
    return SourceBlock.model_validate(in_full(named))
