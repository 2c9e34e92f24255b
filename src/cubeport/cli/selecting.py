"""Selecting for maintenance: `list` shows what is there and how big it is, and with `--delete` deletes what it lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _output, _values
from cubeport.cli._session import Session, current
from cubeport.cli.records import DryRun, Not, Yes
from cubeport.errors import CubeportError, NoMatch, Usage

if TYPE_CHECKING:
    from cubeport.catalog.models import CatalogRecord


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("list")(list_)


def list_(
    ctx: typer.Context,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="TERM", help='As in search: "FIELD OP VALUE" or "FIELD?". Repeatable.')
    ] = None,
    not_: Not = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="dataset, document… Repeatable: any of them may match.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed. `restore` brings it back.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="With --delete, for datasets: also remove their versions, after retention.grace_min.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """List datasets and records with their size and age. With --delete, delete them; try --dry-run first."""
    session = current(ctx)
    terms = _values.terms_of(where, not_)
    if delete and not terms and not kind:
        raise Usage("--delete needs a condition: without one it would delete everything.", next_step='--where "key = tas"')
    if (purge or dry_run or yes) and not delete:
        raise Usage("--purge, --dry-run and --yes are for --delete.", next_step="cubeport list … --delete --dry-run")
    catalog = session.catalog(read_only=not delete or dry_run)
    found = list(catalog.iterate(*terms, kinds=kind or None, statuses={"active"}, order=["created_at"]))
    sizes = _dataset_sizes(session) if any(each.kind == "dataset" for each in found) else {}
    if purge and any(each.kind != "dataset" for each in found):
        raise Usage("--purge is for datasets, and there are other records among these.", next_step="--kind dataset")
    rows = [_row(each, sizes) for each in found]
    if delete and not dry_run and found:
        if not yes:  # print the list before the question
            session.note(_table(rows))
        session.confirm(f"Delete {len(found)} of them?" if len(found) > 1 else f"Delete {rows[0]['name']}?", yes=yes)
    failed = 0
    for record, row in zip(found, rows, strict=True) if delete else ():
        row["outcome"] = "would delete" if dry_run else "deleted"
        if dry_run:
            continue
        try:
            _delete(session, record, purge=purge)
        except CubeportError as exc:
            failed += 1
            row |= {"outcome": "kept", "error": exc.to_mapping()}
            session.warn([f"{row['name']} is kept: {exc.message}"])
    total = sum(row["size_bytes"] or 0 for row in rows)
    document = {"items": rows, "number_returned": len(rows), "size_bytes": total}
    session.result(document, lambda: _table(rows))
    if not rows and (terms or kind):
        raise NoMatch("Nothing matches.", next_step="cubeport list")
    if not rows:
        session.note("There are no datasets and no other records.")
    if delete and dry_run:
        session.note("Nothing was deleted. Repeat it without --dry-run.")
    if failed:
        raise typer.Exit(1)


def _row(record: CatalogRecord, sizes: Mapping[str, int]) -> dict[str, Any]:
    known = [each.size_bytes for each in record.artifacts if each.managed]
    own = sum(each for each in known if each is not None) if None not in known else None
    return {
        "id": record.id,
        "name": record.key or record.id[:8],
        "kind": record.kind,
        "title": record.title,
        "size_bytes": sizes.get(record.key or "", 0) if record.kind == "dataset" else own,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    outcome = ["outcome"] if any("outcome" in row for row in rows) else []
    columns = ["name", "kind", "title", "size_bytes", "updated_at", *outcome]
    shown = ([f"{row[each]:%Y-%m-%d %H:%M}" if each == "updated_at" else row.get(each) for each in columns] for row in rows)
    return _output.table(shown, ["name", "kind", "title", "bytes", "updated", *outcome])


def _dataset_sizes(session: Session) -> dict[str, int]:
    """Return the bytes of all versions on disk, by dataset. Each file counts once."""
    return {each.dataset_id: each.size_bytes for each in session.service.usage().datasets}


def _delete(session: Session, record: CatalogRecord, *, purge: bool) -> None:
    if record.kind == "dataset":
        session.service.delete(record.key, purge=purge)
    else:
        session.catalog().delete(record.id)
