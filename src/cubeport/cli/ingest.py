"""``ingest``, of the core (a manifest, files by name) and of the service (a template, files with ``--id``); and ``run``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cubeport.cli import _output
from cubeport.cli._session import Session, current
from cubeport.cli.records import DryRun
from cubeport.errors import NotFound, Usage

_TEMPLATE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Understood = Literal["template", "files", "manifest", "paths"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("ingest")(ingest)
    app.command("run")(run)


def understood(sources: list[str], id: str | None) -> Understood:
    """Return what is meant: a template or files are the service's, a manifest or paths the core's."""
    if id is not None:
        return "files"
    if len(sources) == 1:
        path = Path(sources[0])
        if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
            return "manifest"
        if not path.exists() and _TEMPLATE.fullmatch(sources[0]):
            return "template"
    return "paths"


def ingest(
    ctx: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="TEMPLATE|FILE|MANIFEST.yaml|GLOB")],
    id: Annotated[str | None, typer.Option("--id", help="Files: the dataset that they become.")] = None,
    start: Annotated[str | None, typer.Option("--start", help="First period, inclusive.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last period, inclusive.")] = None,
    extent: Annotated[str | None, typer.Option("--extent", help="A named area.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Take held periods again.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Files: a whole new version.")] = False,
    template: Annotated[str | None, typer.Option("--template", metavar="F", help="Files: a YAML file of template fields.")] = None,
    publish: Annotated[
        bool | None,
        typer.Option("--publish/--no-publish", help="Show the new version at once or not yet; else as the template says."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A name for the version.")] = None,
    variables: Annotated[str | None, typer.Option("--variables", metavar="A,B")] = None,
    attrs: Annotated[str | None, typer.Option("--attrs", metavar="JSON", help="Global attributes to set.")] = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    license: Annotated[str | None, typer.Option("--license")] = None,
    period_type: Annotated[str | None, typer.Option("--period-type")] = None,
    chunks: Annotated[str | None, typer.Option("--chunks", metavar="JSON")] = None,
    append_dim: Annotated[str | None, typer.Option("--append-dim", metavar="D")] = None,
    group: Annotated[str | None, typer.Option("--group", help="The group of the files to take; the root if not named.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Batch: the records' kind.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Batch: leave the bytes where they are.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Batch: each source goes once its record is there.")] = False,
    extract_metadata: Annotated[bool, typer.Option("--extract-metadata", help="Batch: read metadata out of the bytes.")] = False,
    continue_on_error: Annotated[bool, typer.Option("--continue-on-error", help="Batch: go on after a failure.")] = False,
    on_changed: Annotated[str, typer.Option("--on-changed", help="Batch, a source that differs: skip or new_version.")] = "skip",
    dry_run: DryRun = False,
) -> int | None:
    """Ingest a template's dataset, files as one dataset (--id), or many files as records (a manifest, or names)."""
    session = current(ctx)
    meant = understood(sources, id)
    batch = {"kind": kind, "reference": reference, "move": move, "extract_metadata": extract_metadata}
    batch |= {"continue_on_error": continue_on_error, "on_changed": on_changed if on_changed != "skip" else None}
    service = {
        "start": start, "end": end, "extent": extent, "overwrite": overwrite, "replace": replace, "template": template,
        "publish": publish, "tag": tag, "variables": variables, "attrs": attrs, "title": title, "license": license,
        "period_type": period_type, "chunks": chunks, "append_dim": append_dim, "group": group,
    }  # fmt: skip
    session.note(f"ingest: {_SAID[meant]}")
    if meant in ("template", "files"):
        _refuse(batch, f"goes with a batch, not with {_SAID[meant]}")
        if session.wiring.ingest_service is None:
            raise NotFound(f"There is no file {sources[0]}, and no service here to ingest it as a template.")
        return session.wiring.ingest_service(session, sources, {**service, "id": id, "dry_run": dry_run})
    _refuse(service, f"is the service's, for a template or files with --id; this is {_SAID[meant]}")
    if reference and move:
        raise Usage("--reference and --move exclude each other.")
    mode = "reference" if reference else "move" if move else None
    return _batch(session, sources, meant, batch | {"mode": mode}, dry_run=dry_run)


_SAID: dict[Understood, str] = {
    "template": "a dataset template",
    "files": "files that become a dataset",
    "manifest": "a manifest of records",
    "paths": "files that become records",
}


def _refuse(flags: dict[str, Any], why: str) -> None:
    for name, value in flags.items():
        if value not in (None, False) or (name == "publish" and value is False):
            raise Usage(f"--{name.replace('_', '-')} {why}.")


def _batch(session: Session, sources: list[str], meant: Understood, said: dict[str, Any], *, dry_run: bool) -> int:
    batch = session.catalog().ingest(
        *([Path(sources[0])] if meant == "manifest" else sources),
        manifest=meant == "manifest",
        kind=said["kind"],
        mode=said["mode"],
        extract_metadata=said["extract_metadata"],
        continue_on_error=said["continue_on_error"],
        on_changed=said["on_changed"] or "skip",
        dry_run=dry_run,
    )
    for item in batch.items:
        session.warn(item.warnings)
    rows = ([item.outcome, item.source, item.record_id and item.record_id[:8], item.reason] for item in batch.items)
    session.result(batch, lambda: _output.table(rows, ["", "source", "record", "why"]))
    session.note(", ".join(f"{number} {name}" for name, number in batch.counts.items()) or "nothing")
    return 1 if batch.counts.get("failed") else 0


def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A file of config/pipelines, without .yaml.")],
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help="Paths, or ids of records.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Run a pipeline over sources, as one unit of work."""
    session = current(ctx)
    done = session.catalog().run(name, *(sources or ()), dry_run=dry_run)
    session.warn(done.warnings)
    session.result(done, lambda: _ran(done))


def _ran(done: Any) -> str:
    steps = _output.table(([each.name, each.stage, dict(each.options)] for each in done.steps), ["step", "stage", "options"])
    if done.dry_run:
        return steps
    return "\n".join(f"{record.id} {_output.printable(record.title or '')}".rstrip() for record in done.records)
