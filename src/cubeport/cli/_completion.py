"""What a shell offers for the ids of a command."""

from __future__ import annotations

import typer

from cubeport.cli._session import Session
from cubeport.errors import CubeportError

_MOST = 1000


def dataset_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the datasets of the instance at hand that begin with *incomplete*, at most 1,000, in order.

    There are none for ``--url``, because a shell should not wait for a network. Nothing is printed if the instance cannot be read,
    because it would be in the middle of the line that somebody writes.
    """
    session = ctx.find_root().obj
    if not isinstance(session, Session) or session.options.url is not None:
        return []
    from cubeport.catalog.terms import Term

    where = (Term("key", ">=", incomplete), Term("key", "<", f"{incomplete}~"))  # no id has a ~
    try:
        with session.wiring.open_catalog(session.root, read_only=True, user_id=None, plugins=False, command="") as catalog:
            found = catalog.search(*where, kinds=("dataset",), order=("key",), limit=_MOST)
    except (CubeportError, OSError):
        return []
    return [each.key for each in found if each.key is not None and each.key.startswith(incomplete)]
