"""``cubeport zones``: the named polygons for which cubeport makes tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cubeport.cli import _output
from cubeport.cli._completion import zone_set_ids
from cubeport.cli._session import current
from cubeport.errors import InvalidRequest, Usage


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    zones = typer.Typer(help="Add, list and remove zone sets, which are areas for tables.", no_args_is_help=True)
    for name, command in (("add", add), ("list", list_), ("show", show), ("remove", remove)):
        zones.command(name)(command)
    app.add_typer(zones, name="zones")


def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GeoJSON FeatureCollection of polygons.")],
    id: Annotated[str | None, typer.Option(help="The id of the zone set. Default: the name of the file.")] = None,
    id_property: Annotated[
        str | None, typer.Option(help="The property with the id of each zone. Default: the id of each feature.")
    ] = None,
    name_property: Annotated[
        str | None, typer.Option(help="The property with the name of each zone. Default: name, or the id.")
    ] = None,
) -> None:
    """Store the polygons of a GeoJSON file as a zone set. Replaces one with the same id."""
    from cubeport.catalog.forms.strictjson import strict_json
    from cubeport.cubes.zones import CONVERTED, ZONE_SET_ID

    session = current(ctx)
    zone_set_id = id or file.stem.lower().replace(" ", "-").replace(".", "-")
    if ZONE_SET_ID.fullmatch(zone_set_id) is None:
        raise Usage(f"{zone_set_id!r} cannot be an id: name one of lower-case letters, digits, - and _ with --id.")
    try:
        document: Any = strict_json(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Usage(f"There is no file {file}.") from None
    except (ValueError, RecursionError) as error:
        step = f"if GDAL reads it, convert it first: {CONVERTED}".replace("INPUT", shlex.quote(str(file)))
        raise InvalidRequest(f"{file} is not GeoJSON: {error}"[:300], next_step=step) from error
    verbs = session.verbs
    try:
        kept = verbs.put_zone_set(zone_set_id, document, id_property=id_property, name_property=name_property)
    except InvalidRequest as error:
        step = (error.next_step or "").replace("id_property=", "--id-property ").replace("INPUT", shlex.quote(str(file)))
        raise InvalidRequest(error.message, errors=error.errors, next_step=step or None) from error

    def words() -> str:
        first = ", ".join(f"{zone} ({name})" if name != zone else zone for zone, name, *_ in _rows(verbs.zone_set(zone_set_id))[:3])
        return f"{zone_set_id}: {kept['zones']} zones, the first: {first}."

    session.result(kept, words)


def list_(ctx: typer.Context) -> None:
    """List the zone sets."""
    session = current(ctx)
    listing = session.verbs.zone_sets()
    session.warn(listing.pop("problems"))
    if not listing["items"]:
        session.note("There are no zone sets: add one with cubeport zones add FILE.")
    rows = [(each["zone_set_id"], each["zones"], each["title"]) for each in listing["items"]]
    session.result(listing, lambda: _output.table(rows, ("zone set", "zones", "title")))


def show(
    ctx: typer.Context,
    zone_set_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a zone set or extent.", autocompletion=zone_set_ids)],
) -> None:
    """List the zones of a set; with --json, print it as GeoJSON."""
    session = current(ctx)
    found = session.verbs.zone_set(zone_set_id)
    session.result(found, lambda: _output.table(_rows(found), ("zone", "name", "level", "parent")))


def _rows(zone_set: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(each["id"], *(each["properties"].get(name) for name in ("name", "level", "parent"))) for each in zone_set["features"]]


def remove(
    ctx: typer.Context,
    zone_set_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a zone set.", autocompletion=zone_set_ids)],
) -> None:
    """Remove a zone set."""
    session = current(ctx)
    session.verbs.remove_zone_set(zone_set_id)
    session.result({"zone_set_id": zone_set_id, "removed": True}, f"The zone set {zone_set_id} is removed.")
