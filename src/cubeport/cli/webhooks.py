"""``cubeport webhooks``: receivers of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cubeport.cli import _output
from cubeport.cli._session import current

if TYPE_CHECKING:
    from cubeport.service.service import Service


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    webhooks = typer.Typer(help="List and test the webhooks that receive changes.", no_args_is_help=True)
    for name, command in (("list", list_), ("test", test)):
        webhooks.command(name)(command)
    app.add_typer(webhooks, name="webhooks")


def list_(ctx: typer.Context) -> None:
    """List the webhooks of config/service.yaml, and the last change that each has received."""
    session = current(ctx)
    service: Service = session.service
    found = service.webhooks()
    names = ("webhook_id", "origin", "state", "waiting", "delivered", "given_up", "last_at", "last_error")
    rows = [tuple("" if each[name] is None else each[name] for name in names) for each in found]
    session.result({"kind": "WebhookList", "items": found}, lambda: _output.table(rows, ("webhook", *names[1:])))
    if not found:
        session.note("config/service.yaml names no webhooks.targets.")


def test(
    ctx: typer.Context,
    webhook_id: Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, or its first characters.")],
) -> int:
    """Send a signed ping now, and show the answer. Exits with 6 if the receiver did not accept it."""
    session = current(ctx)
    service: Service = session.service
    said = service.test_webhook(webhook_id)
    words = f"took it: {said['status']}" if said["error"] is None else str(said["error"])
    session.result(said, f"{said['origin']}: {words}")
    return 0 if said["error"] is None else 6
