"""``sync``: datasets brought up to their sources, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _output
from cubeport.cli._session import current
from cubeport.errors import CubeportError, Usage

if TYPE_CHECKING:
    from cubeport.service.service import Service


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("sync")(sync)


def sync(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Datasets.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dataset whose template says how to follow its source.")] = False,
    due: Annotated[bool, typer.Option("--due", help="Datasets whose schedule is due; for cron and timers.")] = False,
    end: Annotated[str | None, typer.Option("--end", help="The last period to ingest. Default: the newest available.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and write nothing.")] = False,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Keep new versions unpublished.")] = False,
) -> int:
    """Update datasets from their sources: add new periods, rebuild for new releases. Exits with 1 if one of several failed."""
    from cubeport.service import present

    if sum((bool(ids), every, due)) != 1:
        raise Usage("Name datasets, or give --all or --due.", next_step="cubeport sync --all --plan")
    session = current(ctx)
    service: Service = session.service
    if due and plan:
        raise Usage("--due claims what is due, so it has no --plan; use --all --plan.")
    names = list(ids or ()) or (service.due() if due else [*_syncable(service)])
    items: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    failed: CubeportError | None = None
    for name in names:
        try:
            if plan:
                detail = service.sync_plan(name, end=end)
                document, status = detail.model_dump(mode="json"), str(detail.status)
            else:
                done = service.sync(name, end=end, publish=False if no_publish else None)
                if done.ingestion is not None and done.ingestion.error is not None:
                    raise CubeportError.from_mapping(done.ingestion.error)
                detail, document, status = done.detail, present.synced(service, done, service.public_url), done.status
        except CubeportError as exc:
            if len(names) == 1:
                raise
            failed = exc
            items.append({"dataset_id": name, "status": "failed", "error": exc.to_mapping()})
            rows.append((name, "failed", exc.kind, exc.message, ""))
            continue
        items.append(document)
        session.warn(f"{name}: {each['message']}" for each in detail.warnings)
        delta = f"{detail.delta_start} … {detail.delta_end}" if detail.delta_start else ""
        rows.append((name, status, detail.action, detail.reason, delta))
    session.result(
        {"kind": "SyncList", "items": items}, lambda: _output.table(rows, ("dataset", "status", "action", "reason", "delta"))
    )
    if not names:
        session.note("No dataset is due." if due else "No template says how to follow its source.")
    return 1 if failed is not None else 0


def _syncable(service: Service) -> list[str]:
    templates = service.templates()
    followed, derived = [], []
    for name in service.dataset_ids():
        state = service.dataset(name).state
        template = templates.get(state.source_dataset_id or "")
        if template is not None and template.sync.kind != "static":
            followed.append(name)
        elif state.derived is not None:
            derived.append(name)
    return [*followed, *service.inputs_first(derived)]
