"""``cubeport keys``: the keys of callers over HTTP."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cubeport.cli import _output
from cubeport.cli._session import Session, current
from cubeport.errors import AmbiguousId, Usage
from cubeport.leap import without_leap

if TYPE_CHECKING:
    from cubeport.service.keys import Keys


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    keys = typer.Typer(help="Make, list and revoke the keys of callers over HTTP.", no_args_is_help=True)
    for name, command in (("add", add), ("list", list_), ("revoke", revoke)):
        keys.command(name)(command)
    app.add_typer(keys, name="keys")


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the person or program that gets the key.")],
    scope: Annotated[
        Literal["read", "ingest", "admin"], typer.Option(help="What the key allows; each scope includes those before it.")
    ] = "ingest",
    datasets: Annotated[str, typer.Option(help="Only for these datasets: ids or globs, separated by commas.")] = "*",
    expires: Annotated[
        str | None, typer.Option(help="When it expires: an RFC 3339 instant, or a date, at whose end in UTC it expires.")
    ] = None,
) -> None:
    """Make a key and print it. It cannot be printed again."""
    from pydantic import ValidationError

    from cubeport.catalog.models import invalid

    session = current(ctx)
    globs = [each.strip() for each in datasets.split(",") if each.strip()]
    try:
        made = _keys(session).add(name, scope=scope, datasets=globs, expires_at=_instant(expires))
    except ValidationError as exc:
        raise invalid("key", exc) from None
    session.result(made.key.to_mapping() | {"key": made.text}, made.text)
    # Not with the key, so that KEY=$(cubeport keys add …) is the key.
    until = "" if made.key.expires_at is None else f" It is valid until {made.key.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}."
    session.note(f"Save it now: it is not shown again. Its id is {made.key.key_id}.{until}")


def list_(ctx: typer.Context) -> None:
    """List the active keys."""
    session = current(ctx)
    found = [each.to_mapping() for each in _keys(session).list()]
    rows = [(each["key_id"], each["name"], each["scope"], ", ".join(each["datasets"]), each["expires_at"]) for each in found]
    session.result(
        {"kind": "KeyList", "items": found}, lambda: _output.table(rows, ("key", "name", "scope", "datasets", "expires"))
    )
    if not found:
        session.note("There are no keys: make one with cubeport keys add NAME --scope ingest.")


def revoke(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The id of the key, or its first characters.")]
) -> None:
    """Revoke a key at once, in every process."""
    session = current(ctx)
    keys = _keys(session)
    fitting = [each.key_id for each in keys.list() if each.key_id.startswith(key_id)] if len(key_id) >= 4 else []
    if len(fitting) > 1:
        raise AmbiguousId(f"{len(fitting)} keys begin with {key_id}: {', '.join(fitting)}", next_step="give more of the id")
    ended = keys.revoke(fitting[0] if fitting else key_id)
    session.result(ended.to_mapping(), f"Key {ended.key_id} of {ended.name} is revoked.")


def _keys(session: Session) -> Keys:
    from cubeport.service.keys import Keys

    return Keys(session.service.catalog.backend)


def _instant(text: str | None) -> datetime | None:
    """Return the instant that *text* names: for a date, the end of that day in UTC, because a key "to 1 January" is used on it."""
    if text is None:
        return None
    wrong = "--expires must be a date or an RFC 3339 instant, such as 2027-01-01 or 2027-01-01T00:00:00Z."
    try:
        if _DATE.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=1)
        instant = datetime.fromisoformat(without_leap(text))
    except (ValueError, OverflowError) as exc:
        raise Usage(wrong) from exc
    if instant.tzinfo is None:
        raise Usage(
            "--expires must name its offset from UTC.", next_step=f"--expires {instant.isoformat()}Z, if that is its time in UTC"
        )
    return instant


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
