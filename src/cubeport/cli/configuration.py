"""Commands for the configuration of an instance: ``templates``, ``extents``, ``check-config``."""

from __future__ import annotations

import typer

from cubeport.cli import _output
from cubeport.cli._session import current
from cubeport.errors import InvalidConfiguration, Problem


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("templates")(templates)
    app.command("extents")(extents)
    app.command("check-config")(check_config)


def templates(ctx: typer.Context) -> None:
    """List the dataset templates, which describe what can be ingested."""
    session = current(ctx)
    listing = session.verbs.templates()
    session.warn(listing.pop("problems"))
    if not listing["items"]:
        session.note("There are no templates: put one in config/datasets/, or ingest files with --id.")
    rows = [(t["id"], t["period_type"], t["title"]) for t in listing["items"]]
    session.result(listing, lambda: _output.table(rows, ("template", "periods", "title")))


def extents(ctx: typer.Context) -> None:
    """List the named areas."""
    session = current(ctx)
    listing = session.verbs.extents()
    if not listing["items"]:
        session.note("There are no named areas: put one in extents/.")
    rows = [(e["extent_id"], ", ".join(f"{v:g}" for v in e["bbox"]), e["name"]) for e in listing["items"]]
    session.result(listing, lambda: _output.table(rows, ("extent", "bbox", "name")))


def check_config(ctx: typer.Context) -> None:
    """Check settings, profiles, templates, extents, zones and pipelines.

    Lists all problems with file, line and column; exits with 2.
    """
    session = current(ctx)
    found = session.parts.check(session.root)
    if found:
        raise InvalidConfiguration(
            f"{len(found)} problem{'s' if len(found) > 1 else ''}:\n" + "\n".join(found),
            errors=[Problem((), "configuration", each) for each in found],
            next_step="change these lines, then run cubeport check-config again",
        )
    session.result({"kind": "ConfigurationCheck", "root": str(session.root), "problems": []}, "The configuration has no problems.")
