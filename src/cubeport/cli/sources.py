"""``apply`` and ``lock``: datasets from a list of sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cubeport.cli import _output, _progress
from cubeport.cli._session import current
from cubeport.errors import Usage

if TYPE_CHECKING:
    from cubeport.service.service import Service

List = Annotated[Path, typer.Argument(metavar="[FILE]", help="The list: a datamanifest.toml.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (apply, lock):
        app.command(command.__name__)(command)


def apply(
    ctx: typer.Context,
    file: List = Path("sources.toml"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be done, without fetching or writing anything.")
    ] = False,
) -> int:
    """Ingest the datasets of a list of sources, and add missing checksums to it. Exits with 1 if an entry failed."""
    session = current(ctx)
    _check(file)
    service: Service = session.service
    with _progress.shown(session) as bar:
        found = service.apply(file, dry_run=dry_run, listener=bar.listener())
    rows = [(each.name, each.dataset_id or "", each.outcome, each.detail) for each in found]
    session.result(
        {"kind": "AppliedList", "items": [each.to_mapping() for each in found]},
        lambda: _output.table(rows, ("entry", "dataset", "outcome", "detail")),
    )
    if not found:
        session.note(f"{file} names no dataset: write a table [NAME] for each, with its uri.")
    for each in found:
        if each.next_step is not None:
            session.note(f"{each.name}: next: {each.next_step}")
    return 1 if any(each.outcome == "failed" for each in found) else 0


def lock(ctx: typer.Context, file: List = Path("sources.toml")) -> None:
    """Add missing checksums to a list of sources, from datasets that were already ingested. Fetches nothing."""
    session = current(ctx)
    _check(file)
    found = session.service.lock_sources(file)
    filled = "\n".join(f"{name}: {sha256}" for name, sha256 in found.items())
    nothing = f"Nothing to fill in. An entry that still has no checksum was not made here: `cubeport apply {file}` makes it."
    session.result({"kind": "Lock", "checksums": found}, filled or session.advice(nothing))


def _check(file: Path) -> None:
    if not file.is_file():
        raise Usage(f"{file} is not a file.", next_step="name the list of sources")
