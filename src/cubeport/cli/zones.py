"""``cubeport zones``: the named polygons for which cubeport makes tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cubeport.cli import _output
from cubeport.cli._session import current
from cubeport.errors import InvalidRequest, Usage


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    zones = typer.Typer(help="Zone sets: named polygons, such as districts, that tables are made for.", no_args_is_help=True)
    for name, command in (("add", add), ("list", list_), ("show", show), ("remove", remove)):
        zones.command(name)(command)
    app.add_typer(zones, name="zones")


def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GeoJSON FeatureCollection of polygons.")],
    id: Annotated[str | None, typer.Option(help="The id of the zone set; else the name of the file.")] = None,
    id_property: Annotated[
        str | None, typer.Option(help="The property that identifies each zone; else the id of each feature.")
    ] = None,
    name_property: Annotated[str | None, typer.Option(help="The property that names each zone; else its name, or its id.")] = None,
) -> None:
    """Keep the polygons of a GeoJSON file as a zone set, instead of one with that id."""
    from cubeport.catalog.forms.strictjson import strict_json
    from cubeport.cubes.zones import ZONE_SET_ID

    session = current(ctx)
    zone_set_id = id or file.stem.lower().replace(" ", "-").replace(".", "-")
    if ZONE_SET_ID.fullmatch(zone_set_id) is None:
        raise Usage(f"{zone_set_id!r} cannot be an id: name one of lower-case letters, digits, - and _ with --id.")
    try:
        document: Any = strict_json(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Usage(f"There is no file {file}.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{file} is not JSON: {error}"[:300]) from error
    found = session.service.put_zone_set(zone_set_id, document, id_property=id_property, name_property=name_property)
    first = ", ".join(f"{zone.id} ({zone.name})" if zone.name != zone.id else zone.id for zone in found.zones[:3])
    session.result(
        {"zone_set_id": found.id, "zones": len(found.zones), "digest": found.digest},
        f"{found.id}: {len(found.zones)} zones, the first: {first}.",
    )


def list_(ctx: typer.Context) -> None:
    """List the zone sets."""
    session = current(ctx)
    found = session.service.zone_sets()
    session.warn(problem for each in session.service.broken() for problem in each.problems if problem.startswith("zones/"))
    if not found:
        session.note("There are no zone sets: add one with cubeport zones add FILE.")
    items = [
        {"zone_set_id": each.id, "zones": len(each.zones), "title": each.title, "bbox": each.bbox, "digest": each.digest}
        for each in found.values()
    ]
    rows = [(each["zone_set_id"], each["zones"], each["title"]) for each in items]
    session.result({"kind": "ZoneSetList", "items": items}, lambda: _output.table(rows, ("zone set", "zones", "title")))


def show(
    ctx: typer.Context, zone_set_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a zone set or extent.")]
) -> None:
    """List the zones of a set; with --json, print it as GeoJSON."""
    session = current(ctx)
    found = session.service.zone_set(zone_set_id)
    rows = [(zone.id, zone.name, zone.level, zone.parent) for zone in found.zones]
    session.result(found.document(), lambda: _output.table(rows, ("zone", "name", "level", "parent")))


def remove(ctx: typer.Context, zone_set_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a zone set.")]) -> None:
    """Remove a zone set."""
    session = current(ctx)
    session.service.remove_zone_set(zone_set_id)
    session.result({"zone_set_id": zone_set_id, "removed": True}, f"The zone set {zone_set_id} is removed.")
