"""``jobs``: ingestions, as they run and as they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cubeport.cli import _output, _progress
from cubeport.cli._completion import dataset_ids
from cubeport.cli._session import current
from cubeport.cli._verbs import whole_ingestion
from cubeport.errors import CubeportError, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubeport.cli._verbs import Document


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("jobs")(jobs)


def jobs(
    ctx: typer.Context,
    ingestion_id: Annotated[str | None, typer.Argument(metavar="ID", help="An id, or its first characters.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel it.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run a failed or cancelled ingestion again.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its progress until it ends. Exits with 1 if it fails.")
    ] = False,
    dataset: Annotated[str | None, typer.Option(help="Only ingestions of this dataset.", autocompletion=dataset_ids)] = None,
    status: Annotated[
        Literal["accepted", "running", "retrying", "completed", "failed", "cancelled"] | None,
        typer.Option(help="Only ingestions with this status."),
    ] = None,
    kind: Annotated[
        Literal["ingestion", "sync"] | None, typer.Option(help="Only ingestions that were requested, or only syncs.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only those requested since a date, a timestamp, 7d, 2h.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> int:
    """List ingestions, newest first, or show one, and follow, cancel or retry it."""
    session = current(ctx)
    verbs = session.verbs
    if ingestion_id is None:
        if cancel or retry or follow:
            raise Usage("--cancel, --retry and --follow need the id of an ingestion.", next_step="cubeport jobs")
        from cubeport.catalog.events import instant_of

        given: dict[str, Any] = {"dataset_id": dataset, "status": status, "kind": kind, "since": instant_of(since, ends=False)}
        listing = verbs.ingestions(limit=limit, **{name: value for name, value in given.items() if value is not None})
        if not listing["items"]:
            session.note("No ingestion matches." if any(given.values()) else "There are no ingestions.")
        rows = [
            (i["ingestion_id"][:8], i["dataset_id"], i["status"], i["action"], _output.moment(i["created_at"]), _error(i["error"]))
            for i in listing["items"]
        ]
        session.result(listing, lambda: _output.table(rows, ("ingestion", "dataset", "status", "action", "created (utc)", "error")))
        return 0
    if cancel and retry:
        raise Usage("--cancel and --retry cannot be combined.")
    whole = whole_ingestion(verbs, ingestion_id)
    found = verbs.cancel(whole) if cancel else verbs.retry(whole) if retry else verbs.ingestion(whole)
    if follow:
        with _progress.shown(session) as bar:
            found = verbs.follow(found["ingestion_id"], bar.listener())
    session.result(found, lambda: _facts(found, session.advice))
    if follow and found["error"] is not None:
        return session.fail(CubeportError.from_mapping(found["error"]))
    return 0


def _error(error: Document | None) -> str | None:
    return None if error is None else f"{error['kind']}: {error['detail']}"


def _facts(found: Document, advice: Callable[[str | None], str]) -> str:
    """Return the main facts about a job for people; ``--json`` has all. A table has no periods of its own, and no plan."""
    asked, plan, span = found["request_scope"], found["plan"], (found["coverage"] or {}).get("temporal")
    progress = found["progress"]
    count = f", {progress['done']} of {progress['total']} {progress['unit']}" if progress["total"] else ""
    error, is_table = found["error"], found["kind"] == "table"
    facts = {
        "table" if is_table else "ingestion": found["ingestion_id"],
        "dataset": found["dataset_id"],
        "status": found["status"],
        "cancel requested": "yes" if found["cancel_requested"] and found["status"] == "running" else None,
        "kind": found["kind"],
        "asked for": None if is_table else " to ".join((asked["start"] or "the beginning", asked["end"] or "the newest")),
        "area": asked["extent_id"] or asked["bbox"],
        "action": plan and f"{found['action']}: {plan['reason']}",
        "changed": ", ".join(found["changed"]),
        "version": found["version_id"],
        "time": span and f"{span['start']} to {span['end']}",
        "progress": f"{progress['phase']}{count}" if found["finished_at"] is None else None,
        "attempt": found["attempt"] if found["attempt"] > 1 else None,
        "next attempt": found["retry_at"],
        "accepted": found["created_at"],
        "started": found["started_at"],
        "ended": found["finished_at"],
        "result": next((each["href"] for each in found["links"] if each["rel"] == "results"), None),
        "warnings": [{each["kind"]: each["message"]} for each in found["warnings"]],
        "error": _error(error),
        "next": error and advice(error.get("next")),
    }
    return _output.tree(facts)
