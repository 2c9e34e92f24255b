"""``serve``, ``worker`` and ``demo``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.catalog.forms.folders import folder_of
from cubeport.cli import _output, _progress
from cubeport.cli._session import Session, current
from cubeport.errors import CubeportError

if TYPE_CHECKING:
    from cubeport.service.ingestions import Ingestion

Port = Annotated[int | None, typer.Option("--port", "-p", help="The port; 0 takes a free one.", min=0, max=65535)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("serve")(serve)
    app.command("worker")(worker)
    app.command("demo")(demo)


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen on. Default: as configured, else 127.0.0.1.")] = None,
    port: Port = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.", min=1)] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every write, and run no jobs.")] = False,
    no_jobs: Annotated[
        bool, typer.Option("--no-jobs", help="Run no jobs in this process; start a `cubeport worker` for them.")
    ] = False,
    public_url: Annotated[
        str | None, typer.Option(help="The public address, with which links begin. Needed behind a proxy.")
    ] = None,
) -> int:
    """Serve the instance over HTTP: STAC, Zarr, OGC API and the native API."""
    session = current(ctx)
    flags = {"server__host": host, "server__port": port, "server__workers": workers, "public_url": public_url}
    return _serve(session, session.root, {**flags, "read_only": read_only or None}, jobs=not no_jobs)


def worker(
    ctx: typer.Context,
    at_once: Annotated[
        int | None,
        typer.Option("--jobs", help="How many ingestions run at the same time. Default: as configured, else 2.", min=1, max=64),
    ] = None,
) -> int:
    """Run the jobs, schedules and webhooks of the instance, without HTTP. Several workers and servers share them."""
    session = current(ctx)
    flags = {} if at_once is None else {"jobs__workers": at_once}
    code: int = session.parts.work(session.root, announce=session.write, tell=session.note, **flags)
    return code


def demo(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The instance to make or to reuse.")] = Path("demo"),
    port: Port = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop when the data are published.")] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="Run several servers: PostgreSQL, SeaweedFS, two cubeport servers, and nginx or Caddy.")
    ] = False,
) -> int:
    """Publish real sample data and serve them. A second run changes nothing."""
    session = current(ctx)
    root = folder_of(directory).absolute()
    if scale:
        with session.parts.scaled(root, prepare=session.parts.prepare, note=session.note, port=0 if no_serve else port) as machines:
            attributions = _demo_data(session, machines.first)
            if no_serve:
                return _end(session, attributions)
            session.close()
            served: int = machines.serve(announce=lambda url: session.write(_faces(url, attributions)), port=port)
            return served
    session.parts.prepare(root, "sqlite")
    attributions = _demo_data(session, root)
    if no_serve:
        return _end(session, attributions)
    session.close()
    return _serve(session, root, {"server__port": port}, jobs=True, datasets=attributions)


def _demo_data(session: Session, root: Path) -> Mapping[str, str]:
    """Publish the data of the demonstration, and return the attribution of each dataset."""
    session.options = replace(session.options, instance=root)
    outcomes = [_demo_one(session, request) for request in session.parts.demo]
    made = sum(not each.reused for each in outcomes)
    session.note(f"{made} datasets were made." if made else "Nothing changed: every dataset already exists.")
    shown = [session.service.shown(each.dataset_id, unpublished=True).texts for each in outcomes]
    # The licences of the data ask for this line wherever the data are shown.
    return {each.dataset_id: each.attribution or "" for each in shown}


def _end(session: Session, attributions: Mapping[str, str]) -> int:
    session.write("\n".join(f"{name}: {words}" for name, words in attributions.items() if words))
    session.close()
    return 0


def _demo_one(session: Session, request: Mapping[str, Any]) -> Ingestion:
    from cubeport.service.ingestions import IngestionRequest

    with _progress.shown(session) as progress:
        name = "_".join(filter(None, (request["dataset_id"], request.get("extent_id"))))
        listener = progress.listener(name)
        done: Ingestion = session.service.ingest_here(IngestionRequest.model_validate(request), listener=listener)
    if done.error is not None:
        raise CubeportError.from_mapping(done.error)
    session.note(f"{done.dataset_id}: {'already exists' if done.reused else 'made and published'}")
    return done


def _serve(session: Session, root: Path, flags: Mapping[str, Any], *, jobs: bool, datasets: Mapping[str, str] | None = None) -> int:
    given = {name: value for name, value in flags.items() if value is not None}
    return session.parts.serve(root, announce=lambda url: session.write(_faces(url, datasets)), jobs=jobs, **given)


def _faces(url: str, datasets: Mapping[str, str] | None) -> str:
    """Return the table of addresses that a person needs first; *datasets* have each their attribution."""
    if not datasets:
        faces = (
            ("pages", "/"),
            ("STAC", "/stac"),
            ("Zarr", "/zarr/{id}"),
            ("OGC API", "/ogcapi"),
            ("datasets", "/datasets"),
            ("API", "/docs"),
        )
        return "\n".join(f"{name:<9} {url}{path}" for name, path in faces) + "\nPress Ctrl-C to stop."
    lines = [f"Serving at {url}/  (API: {url}/docs). Press Ctrl-C to stop.", ""]
    for dataset_id, attribution in datasets.items():
        lines += [
            dataset_id,
            f"  STAC    {url}/stac/collections/{dataset_id}",
            f"  Zarr    {url}/zarr/{dataset_id}",
            f"  OGC API {url}/ogcapi/collections/{dataset_id}",
            *([f"  Data    {_output.printable(attribution)}"] if attribution else []),
        ]
    return "\n".join(lines)
