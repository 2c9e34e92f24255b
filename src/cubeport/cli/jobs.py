"""``jobs``: ingestions, as they run and as they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _output
from cubeport.cli._session import Session, current
from cubeport.errors import AmbiguousId

if TYPE_CHECKING:
    from cubeport.service.ingestions import Ingestion
    from cubeport.service.service import Service


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("jobs")(jobs)


def jobs(
    ctx: typer.Context,
    ingestion_id: Annotated[str | None, typer.Argument(metavar="ID", help="An id, or its first characters.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel it.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> None:
    """List ingestions, newest first, or show one."""
    session = current(ctx)
    service: Service = session.service
    if ingestion_id is not None:
        whole = _whole(service, ingestion_id)
        found = service.cancel(whole) if cancel else service.ingestion(whole)
        shown = document(session, found)
        session.result(shown, lambda: _output.tree(shown))
        return
    page = service.ingestions(limit=limit)
    rows = [(i.ingestion_id[:8], i.dataset_id, i.status, i.action, i.created_at.isoformat(timespec="seconds")) for i in page.items]
    listing = {"kind": "IngestionList", "items": [document(session, i) for i in page.items]}
    session.result(listing, lambda: _output.table(rows, ("ingestion", "dataset", "status", "action", "created")))


def _whole(service: Service, name: str) -> str:
    """Return the id that begins with *name*, 4 characters or more. Raises AmbiguousId, NotFound."""
    if len(name) == 32 or len(name) < 4:
        return name
    found: list[str] = []
    cursor = None
    while True:
        page = service.ingestions(limit=1000, cursor=cursor)
        found += [each.ingestion_id for each in page.items if each.ingestion_id.startswith(name)]
        if (cursor := page.next) is None:
            break
    if len(found) > 1:
        raise AmbiguousId(f"{len(found)} ingestions begin with {name}: {', '.join(found[:10])}", next_step="give more of the id")
    return found[0] if found else name


def document(session: Session, done: Ingestion) -> dict[str, Any]:
    """Return the document of an ingestion, as HTTP gives it."""
    from cubeport.service.present import ingestion

    service: Service = session.service
    return ingestion(service, done, service.public_url)
