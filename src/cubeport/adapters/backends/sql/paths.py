"""The numbers of the paths of fields (``metadata.site``), which the table of fields has instead of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, func, insert, select

from cubeport.adapters.backends.sql.dialect import Connection, listed
from cubeport.adapters.backends.sql.tables import field_path
from cubeport.catalog.forms.canonical import dumps

_NUMBERED = select(field_path.c.name, field_path.c.id).where(field_path.c.name.in_(select(listed(bindparam("names")).c.value)))
_LAST = select(func.max(field_path.c.id))
_ADD = insert(field_path).values(name=bindparam("name"), id=bindparam("id"))


def numbers(connection: Connection, names: Iterable[str]) -> Mapping[str, int]:
    """Return the number of each name that any record has ever had."""
    wanted = dumps(sorted(set(names)))
    return dict(connection.execute(connection.dialect.prepared(_NUMBERED), {"names": wanted}).fetchall())


def number_all(connection: Connection, known: dict[str, int], names: Iterable[str]) -> None:
    """Add the numbers of *names* to those *known* in this transaction, and give numbers to new names.

    They are not known beyond a transaction: another one may give them anew.
    """
    missing = set(names) - known.keys()
    if not missing:
        return
    found = numbers(connection, missing)
    known.update(found)
    if fresh := sorted(missing - found.keys()):
        ((last,),) = connection.execute(connection.dialect.prepared(_LAST)).fetchall()
        for number, name in enumerate(fresh, (last or 0) + 1):
            connection.execute(connection.dialect.prepared(_ADD), {"name": name, "id": number})
            known[name] = number
