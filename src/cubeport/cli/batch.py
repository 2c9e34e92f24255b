"""Many records at once: ``import`` (records of files, of a manifest, of another catalog) and ``run`` (a pipeline)."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cubeport.cli import _output, _values
from cubeport.cli._session import Session, current
from cubeport.cli.records import DryRun, Metas
from cubeport.errors import Usage

Brought = Literal["manifest", "records", "files"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("import")(import_)
    app.command("run")(run)


def brought(sources: list[str]) -> Brought:
    """Return what *sources* bring: a manifest, records that ``export records`` wrote, or files that become records.

    One YAML file is a manifest. One ``.ndjson``, ``.jsonl`` or ``-`` is records; so is one ``.json``, unless it says ``manifest``.
    """
    if len(sources) == 1:
        path = Path(sources[0])
        if sources[0] == "-" or path.suffix in (".ndjson", ".jsonl"):
            return "records"
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return "manifest"
        if path.suffix == ".json" and path.is_file():
            return "manifest" if _is_manifest(path) else "records"
    return "files"


def _is_manifest(path: Path) -> bool:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "manifest" in document


def import_(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files or quoted globs; a manifest (YAML); NDJSON of `export records`, or -."),
    ],
    kind: Annotated[str | None, typer.Option("--kind", help="Files: the records' kind.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Files: leave the bytes where they are.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Files: remove each source once its record is committed.")] = False,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="NAME[@VERSION]", help="Files: the schema that their metadata must fit.")
    ] = None,
    meta: Metas = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Files: a tag for all records. Repeatable.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Files: the storage profile.")] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="TEXT", help="Files: read metadata from the names, e.g. '{station}_{year}.nc'."),
    ] = None,
    extract_metadata: Annotated[bool, typer.Option("--extract-metadata", help="Files: read metadata from the bytes.")] = False,
    continue_on_error: Annotated[bool, typer.Option("--continue-on-error", help="Files: continue after a failure.")] = False,
    on_changed: Annotated[str | None, typer.Option("--on-changed", help="If a source has changed: skip or new_version.")] = None,
    on_exists: Annotated[
        str | None, typer.Option("--on-exists", help="NDJSON: what to do if a record exists: error or skip.")
    ] = None,
    dry_run: DryRun = False,
) -> int | None:
    """Add many files, a manifest or the records of another catalog. This publishes nothing: see `ingest`."""
    session = current(ctx)
    what = brought(sources)
    of_files: dict[str, Any] = {"kind": kind, "reference": reference, "move": move, "extract_metadata": extract_metadata}
    of_files |= {"schema": schema, "meta": meta or None, "tag": tag or None, "profile": profile, "pattern": pattern}
    of_files |= {"continue_on_error": continue_on_error, "on_changed": on_changed, "dry_run": dry_run}
    if what == "records":
        _refuse(of_files, "is for files and manifests; these are records that `export records` wrote")
        _records(session, sources[0], on_exists or "error")
        return None
    _refuse(
        {"on_exists": on_exists},
        f"is for records that `export records` wrote; {'this is' if what == 'manifest' else 'these are'} {_WORDS[what]}",
    )
    if reference and move:
        raise Usage("--reference and --move cannot be combined.")
    if on_changed not in (None, "skip", "new_version"):
        raise Usage("--on-changed must be skip or new_version.")
    from cubeport.catalog.batch import is_zarr

    session.note(f"import: {_WORDS[what]}")
    for each in sources if what == "files" else ():
        if Path(each).is_dir() and not is_zarr(Path(each)):
            session.note(
                f"{each} is a folder, and becomes one record; for a record of each file: cubeport import {shlex.quote(f'{each}/*')}"
            )
    batch = session.catalog().ingest(
        *([Path(sources[0])] if what == "manifest" else sources),
        manifest=what == "manifest",
        kind=kind,
        mode="reference" if reference else "move" if move else None,
        schema=schema,
        metadata=_values.metadata_of(meta or ()),
        tags=tag or (),
        profile=profile,
        pattern=pattern,
        extract_metadata=extract_metadata,
        continue_on_error=continue_on_error,
        on_changed="new_version" if on_changed == "new_version" else "skip",
        dry_run=dry_run,
    )
    for item in batch.items:
        session.warn(item.warnings)
    rows = ([item.outcome, item.source, item.record_id and item.record_id[:8], item.reason] for item in batch.items)
    session.result(batch, lambda: _output.table(rows, ["", "source", "record", "why"]))
    session.note(", ".join(f"{number} {name}" for name, number in batch.counts.items()) or "nothing")
    return 1 if batch.counts.get("failed") else 0


_WORDS: dict[Brought, str] = {
    "manifest": "a manifest of records",
    "records": "records of a catalog",
    "files": "files that become records",
}


def _refuse(flags: dict[str, Any], why: str) -> None:
    for name, value in flags.items():
        if value not in (None, False):
            raise Usage(f"--{name.replace('_', '-')} {why}.")


def _records(session: Session, file: str, on_exists: str) -> None:
    if on_exists not in ("error", "skip"):
        raise Usage("--on-exists must be error or skip.")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Usage(f"{file} cannot be read: {exc}") from None
    found = session.catalog().import_records(text, on_exists=on_exists)
    session.result(found, lambda: _output.tree(_output.plain(found)))


def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A file of config/pipelines, without .yaml.")],
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help="Paths, or ids of records.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Run a pipeline on sources, as one unit of work."""
    session = current(ctx)
    done = session.catalog().run(name, *(sources or ()), dry_run=dry_run)
    session.warn(done.warnings)
    session.result(done, lambda: _ran(done))


def _ran(done: Any) -> str:
    steps = _output.table(([each.name, each.stage, dict(each.options)] for each in done.steps), ["step", "stage", "options"])
    if done.dry_run:
        return steps
    return "\n".join(f"{record.id} {_output.printable(record.title or '')}".rstrip() for record in done.records)
