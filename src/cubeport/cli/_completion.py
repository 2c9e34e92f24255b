"""What a shell offers for the ids of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cubeport.cli._session import Session
from cubeport.errors import CubeportError

if TYPE_CHECKING:
    from cubeport.catalog.models import CatalogRecord

_MOST = 1000


def dataset_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the datasets of the instance at hand that begin with *incomplete*, at most 1,000, in order.

    After ``ID@`` they are its tags, ``latest`` and the versions that were published last. bash divides words at the ``@``, so it
    offers them in zsh and fish only.

    There are none for ``--url``, because a shell should not wait for a network. Nothing is printed if the instance cannot be read,
    because it would be in the middle of the line that somebody writes.
    """
    session = ctx.find_root().obj
    if not isinstance(session, Session) or session.options.url is not None:
        return []
    from cubeport.catalog.terms import Term

    dataset_id, at, _ = incomplete.partition("@")
    # No id has a ~.
    where = (Term("key", "=", dataset_id),) if at else (Term("key", ">=", incomplete), Term("key", "<", f"{incomplete}~"))
    try:
        with session.wiring.open_catalog(session.root, read_only=True, user_id=None, plugins=False, command="") as catalog:
            found = catalog.search(*where, kinds=("dataset",), order=("key",), limit=_MOST)
    except (CubeportError, OSError):
        return []
    offered = (text for each in found if each.key is not None for text in (_states(each) if at else (each.key,)))
    return [text for text in offered if text.startswith(incomplete)]


def _states(record: CatalogRecord) -> list[str]:
    state = record.metadata.get("dataset") or {}
    refs = [*sorted(state.get("tags") or ()), "latest", state.get("latest"), *reversed(list(state.get("left") or ()))]
    return [f"{record.key}@{ref}" for ref in dict.fromkeys(refs) if ref]
