"""What a shell offers for the ids of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cubeport.cli._session import Session
from cubeport.errors import CubeportError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cubeport.catalog.models import CatalogRecord, RecordStatus

_MOST = 1000


def dataset_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the datasets of the instance at hand that begin with *incomplete*, at most 1,000, in order.

    After ``ID@`` they are its tags, ``latest`` and the versions that were published last. bash divides words at the ``@``, so it
    offers them in zsh and fish only.

    There are none for ``--url``, because a shell should not wait for a network. Nothing is printed if the instance cannot be read,
    because it would be in the middle of the line that somebody writes.
    """
    return _keys(ctx, incomplete, kinds=("dataset",))


def record_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of datasets, and the keys of other records, as :func:`dataset_ids` does."""
    return _keys(ctx, incomplete)


def deleted_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of deleted datasets, and the keys of other deleted records, as :func:`dataset_ids` does."""
    return _keys(ctx, incomplete, status="deleted")


def zone_set_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the zone sets of the instance at hand that begin with *incomplete*."""
    session = _here(ctx)
    try:
        found = session.verbs.zone_sets()["items"] if session is not None else ()
    except (CubeportError, OSError):
        return []
    return [each["zone_set_id"] for each in found if each["zone_set_id"].startswith(incomplete)]


def _here(ctx: typer.Context) -> Session | None:
    """Return the session, if it is one of a folder."""
    session = ctx.find_root().obj
    return session if isinstance(session, Session) and session.options.url is None else None


def _keys(
    ctx: typer.Context, incomplete: str, *, kinds: Collection[str] | None = None, status: RecordStatus = "active"
) -> list[str]:
    session = _here(ctx)
    if session is None:
        return []
    from cubeport.catalog.terms import Term

    dataset_id, at, _ = incomplete.partition("@")
    # No id has a ~.
    where = (Term("key", "=", dataset_id),) if at else (Term("key", ">=", incomplete), Term("key", "<", f"{incomplete}~"))
    try:
        with session.wiring.open_catalog(session.root, read_only=True, user_id=None, plugins=False, command="") as catalog:
            found = catalog.search(*where, kinds=kinds, statuses=(status,), order=("key",), limit=_MOST)
    except (CubeportError, OSError):
        return []
    offered = (text for each in found if each.key is not None for text in (_states(each) if at else (each.key,)))
    return [text for text in offered if text.startswith(incomplete)]


def _states(record: CatalogRecord) -> list[str]:
    state = record.metadata.get("dataset") or {}
    refs = [*sorted(state.get("tags") or ()), "latest", state.get("latest"), *reversed(list(state.get("left") or ()))]
    return [f"{record.key}@{ref}" for ref in dict.fromkeys(refs) if ref]
