"""``sync``: datasets brought up to their sources, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _output, _progress
from cubeport.cli._completion import dataset_ids
from cubeport.cli._session import current
from cubeport.cli.ingest import NetcdfCopy
from cubeport.errors import CubeportError, Usage

if TYPE_CHECKING:
    from cubeport.cli._verbs import Document


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("sync")(sync)


def sync(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Datasets.", autocompletion=dataset_ids)] = None,
    every: Annotated[bool, typer.Option("--all", help="All datasets whose templates say how to follow the source.")] = False,
    due: Annotated[bool, typer.Option("--due", help="Only datasets whose schedule is due, for cron and timers.")] = False,
    end: Annotated[str | None, typer.Option("--end", help="The last period to ingest. Default: the newest available.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, without writing anything.")] = False,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Keep new versions unpublished.")] = False,
    netcdf_copy: NetcdfCopy = None,
) -> int:
    """Update datasets from their sources: add new periods, rebuild for new releases. Exits with 1 if one of several failed."""
    if sum((bool(ids), every, due)) != 1:
        raise Usage("Name datasets, or give --all or --due.", next_step="cubeport sync --all --plan")
    if plan and netcdf_copy is not None:
        raise Usage("--plan writes nothing, so it has no --netcdf-copy.")
    if due and plan:
        raise Usage("--due claims what is due, so it has no --plan; use --all --plan.")
    session = current(ctx)
    verbs = session.verbs
    names = list(ids or ()) or (verbs.due() if due else verbs.followed())
    items: list[Document] = []
    rows: list[tuple[Any, ...]] = []
    failed: CubeportError | None = None
    for name in names:
        try:
            if plan:
                document = detail = verbs.sync_plan(name, end=end)
                status = _planned(detail)
            else:
                with _progress.shown(session) as bar:
                    document = verbs.sync(
                        name,
                        end=end,
                        publish=False if no_publish else None,
                        prefer_zarr=None if netcdf_copy is None else not netcdf_copy,
                        listener=bar.listener(name),
                    )
                detail, status = document["sync_detail"], document["status"]
        except CubeportError as exc:
            if len(names) == 1:
                raise
            failed = exc
            items.append({"dataset_id": name, "status": "failed", "error": exc.to_mapping()})
            rows.append((name, "failed", exc.kind, exc.message, ""))
            if exc.next_step:
                session.note(f"{name}: next: {exc.next_step}")
            continue
        items.append(document)
        session.warn(f"{name}: {each['message']}" for each in detail["warnings"])
        if status in ("not_syncable", "waiting_for_source"):
            session.note(f"{name}: {detail['message']}")
        delta = f"{detail['delta_start']} … {detail['delta_end'] or '?'}" if detail["delta_start"] else ""
        rows.append((name, status, detail["action"], detail["reason"], delta))
    session.result(
        {"kind": "SyncList", "items": items}, lambda: _output.table(rows, ("dataset", "status", "action", "reason", "delta"))
    )
    if not names:
        session.note("No dataset is due." if due else "No dataset has a template that says how to follow its source (sync).")
    return 1 if failed is not None else 0


def _planned(detail: Document) -> str:
    """Return the status of a sync that was only planned."""
    if detail["action"] == "not_syncable":
        return "not_syncable"
    if detail["reason"] == "release_version_unavailable":
        return "waiting_for_source"
    return "up_to_date" if detail["action"] == "no_op" else "planned"
