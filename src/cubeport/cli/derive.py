"""``derive`` and ``recipes``: datasets that are made of others."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cubeport.cli import _output, _progress
from cubeport.cli._completion import dataset_ids
from cubeport.cli._session import current
from cubeport.errors import CubeportError, Usage


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (derive, recipes):
        app.command(command.__name__)(command)


def derive(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="The name of the recipe; see `cubeport recipes`.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="The input datasets: id, id@version or id@tag.", autocompletion=dataset_ids),
    ] = None,
    dataset_id: Annotated[str | None, typer.Option("--id", help="The id of the new dataset.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter; can be repeated.")] = None,
    title: Annotated[str | None, typer.Option(help="The title.")] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Keep it unpublished.")] = False,
    every: Annotated[bool, typer.Option("--list", help="List the derived datasets, and which of them are stale.")] = False,
) -> None:
    """Derive a dataset from others with a recipe: a normal, an anomaly, longer periods. `sync` updates stale ones."""
    session = current(ctx)
    if every:
        if recipe is not None or dataset_id is not None or param or title is not None or no_publish:
            raise Usage("--list takes nothing else.")
        listing = session.verbs.derived()
        if not listing["items"]:
            session.note("There are no derived datasets: make one with cubeport derive.")
        rows = [
            (each["dataset_id"], each["state"], each["recipe"], ", ".join(told["ref"] for told in each["inputs"].values()))
            for each in listing["items"]
        ]
        session.result(listing, lambda: _output.table(rows, ("dataset", "state", "recipe", "inputs")))
        return
    if recipe is None or not inputs or dataset_id is None:
        raise Usage("Name the recipe, its inputs and --id.", next_step="cubeport recipes")
    with _progress.shown(session) as bar:
        done = session.verbs.derive(
            recipe,
            inputs,
            dataset_id=dataset_id,
            params=dict(_parameter(each) for each in param or ()),
            title=title,
            publish=not no_publish,
            listener=bar.listener(),
        )
    if done["error"] is not None:
        raise CubeportError.from_mapping(done["error"])
    session.warn(each["message"] for each in done["warnings"])
    words = "is derived already: nothing to do" if done["reused"] else f"is derived, version {done['version_id']}"
    session.result(done, f"{dataset_id} {words}")


def recipes(ctx: typer.Context) -> None:
    """List the recipes for derived datasets, with their inputs and parameters."""
    session = current(ctx)
    listing = session.verbs.recipes()
    rows = [
        (
            each["name"],
            ", ".join(each["inputs"]),
            ", ".join(p["name"] if p["required"] else f"{p['name']}={p['default']}" for p in each["parameters"]),
            each["says"],
        )
        for each in listing["items"]
    ]
    session.result(listing, lambda: _output.table(rows, ("recipe", "inputs", "parameters", "what it makes")))


def _parameter(text: str) -> tuple[str, Any]:
    """Return ``NAME=VALUE`` with the value as JSON where it is, else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Usage("--param takes NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
