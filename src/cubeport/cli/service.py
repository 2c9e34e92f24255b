"""The service's commands: an instance made, served, filled and looked at. Parse, call, format; ``--json`` is what HTTP says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.catalog.forms import strictyaml
from cubeport.cli import _output, records
from cubeport.cli._session import Session, current
from cubeport.errors import CubeportError, InvalidConfiguration, InvalidRequest, RecordNotFound, Usage

if TYPE_CHECKING:
    from cubeport.catalog.models import CatalogRecord
    from cubeport.service.ingestions import Ingestion
    from cubeport.service.service import Service


@dataclass(frozen=True, slots=True)
class ServiceWiring:
    """What ``main`` hands to these commands beside the catalog's."""

    serve: Callable[..., int]
    """``(root, *, announce, **flags)``: serve until a signal, return the exit code."""
    prepare: Callable[[Path, str], None]
    """``(root, catalog)``: make the folder an instance with the sample templates; nothing that is there is changed."""
    demo: Sequence[Mapping[str, Any]]
    """The requests that the demonstration ingests."""


def register(app: typer.Typer, wiring: ServiceWiring) -> None:
    """Add the commands."""

    @app.command("serve")
    def serve(
        ctx: typer.Context,
        host: Annotated[str | None, typer.Option(help="The address to bind; 127.0.0.1 if not configured.")] = None,
        port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = None,
        workers: Annotated[int | None, typer.Option(help="Server processes.", min=1)] = None,
        read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every write; run no jobs.")] = False,
        no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Run no jobs in this process.")] = False,
        public_url: Annotated[str | None, typer.Option(help="What links begin with; needed behind a proxy.")] = None,
    ) -> int:
        """Serve the instance: STAC, Zarr, OGC API and the native API."""
        session = current(ctx)
        flags = {"server__host": host, "server__port": port, "server__workers": workers, "public_url": public_url}
        return _serve(session, wiring, session.root, {**flags, "read_only": read_only or None}, jobs=not no_jobs)

    @app.command("demo")
    def demo(
        ctx: typer.Context,
        directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The instance to make or go on with.")] = Path("demo"),
        port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = None,
        no_serve: Annotated[bool, typer.Option("--no-serve", help="Stop when the data are published.")] = False,
    ) -> int:
        """Land real sample data, publish them on every face and serve them. A second run changes nothing."""
        session = current(ctx)
        root = directory.absolute()
        wiring.prepare(root, "sqlite")
        session.options = replace(session.options, instance=root)
        outcomes = [_demo_one(session, request) for request in wiring.demo]
        made = sum(not each.reused for each in outcomes)
        session.note(f"{made} datasets were made." if made else "Nothing changed: every dataset is held already.")
        if no_serve:
            return 0
        session.close()
        return _serve(session, wiring, root, {"server__port": port}, jobs=True, datasets=[each.dataset_id for each in outcomes])

    @app.command("datasets")
    def datasets(
        ctx: typer.Context,
        dataset_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
        q: Annotated[str | None, typer.Option(help="Words of title, description, keywords or id.")] = None,
        bbox: Annotated[str | None, typer.Option(help="west,south,east,north in degrees.")] = None,
        datetime: Annotated[str | None, typer.Option(help="An instant, or a/b with .. for an open end.")] = None,
        variable: Annotated[str | None, typer.Option()] = None,
        publication: Annotated[str, typer.Option(help="published, unpublished or any.")] = "any",
        limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
        cursor: Annotated[str | None, typer.Option()] = None,
    ) -> None:
        """List datasets, or show one."""
        from cubeport.documents import native

        session = current(ctx)
        service: Service = session.service
        if dataset_id is not None:
            from cubeport.service.present import detail

            document = detail(service, dataset_id, service.public_url).model_dump(mode="json")
            session.result(document, lambda: _output.tree(document))
            return
        page = service.datasets(
            q=q, bbox=_bbox(bbox), datetime=datetime, variable=variable, publication=publication, limit=limit, cursor=cursor
        )
        items = [native.summary(each, service.public_url) for each in page.items]
        listing = native.listing("DatasetList", items, ()) | ({"next": page.next} if page.next else {})
        rows = [
            (each.dataset_id, each.publication.status, each.variable, _span(each.extent.temporal), each.dataset_name)
            for each in items
        ]
        session.result(listing, lambda: _output.table(rows, ("dataset", "state", "variable", "time", "title")))

    @app.command("versions")
    def versions(ctx: typer.Context, dataset_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
        """List the versions of a dataset, newest first."""
        from cubeport.service import present

        session = current(ctx)
        service: Service = session.service
        shown = service.shown(dataset_id, unpublished=True)
        found = [
            present.version(shown, state, stored, service.public_url).model_dump(mode="json")
            for state, stored in service.versions(dataset_id, limit=1000)
        ]
        rows = [(each["version_id"], each["seq"], each["kind"], each["state"], each["created_at"]) for each in found]
        session.result(
            {"kind": "VersionList", "items": found}, lambda: _output.table(rows, ("version", "seq", "kind", "state", "created"))
        )

    @app.command("templates")
    def templates(ctx: typer.Context) -> None:
        """List what could be ingested."""
        session = current(ctx)
        found = [t.model_dump(mode="json", exclude={"source", "ingestion"}) for t in session.service.templates().values()]
        session.warn(problem for each in session.service.broken() for problem in each.problems)
        if not found:
            session.note("There are no templates: put one in config/datasets/, or ingest files with --id.")
        rows = [(t["id"], t["period_type"], t["title"]) for t in found]
        session.result(
            {"kind": "DatasetTemplateList", "items": found}, lambda: _output.table(rows, ("template", "periods", "title"))
        )

    @app.command("extents")
    def extents(ctx: typer.Context) -> None:
        """List the named areas."""
        session = current(ctx)
        found = [e.model_dump(mode="json", exclude={"country_code"}) for e in session.service.extents().values()]
        rows = [(e["extent_id"], ", ".join(f"{v:g}" for v in e["bbox"]), e["name"]) for e in found]
        session.result({"kind": "ExtentList", "items": found}, lambda: _output.table(rows, ("extent", "bbox", "name")))

    @app.command("jobs")
    def jobs(
        ctx: typer.Context,
        ingestion_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
        cancel: Annotated[bool, typer.Option("--cancel", help="Ask for its end.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    ) -> None:
        """List ingestions, newest first, or show one."""
        session = current(ctx)
        service: Service = session.service
        if ingestion_id is not None:
            found = service.cancel(ingestion_id) if cancel else service.ingestion(ingestion_id)
            document = _ingestion_document(service, found)
            session.result(document, lambda: _output.tree(document))
            return
        page = service.ingestions(limit=limit)
        rows = [(i.ingestion_id, i.dataset_id, i.status, i.action, i.created_at.isoformat(timespec="seconds")) for i in page.items]
        listing = {"kind": "IngestionList", "items": [_ingestion_document(service, i) for i in page.items]}
        session.result(listing, lambda: _output.table(rows, ("ingestion", "dataset", "status", "action", "created")))

    @app.command("publish")
    def publish(
        ctx: typer.Context,
        dataset_id: Annotated[str, typer.Argument(metavar="ID")],
        version: Annotated[str | None, typer.Option(help="A version id or tag; the head if not named.")] = None,
    ) -> None:
        """Show the dataset on every face."""
        session = current(ctx)
        session.service.publish(dataset_id, version=version)
        _summary(session, dataset_id, "is published")

    @app.command("unpublish")
    def unpublish(ctx: typer.Context, dataset_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
        """Take the dataset off every face; its versions stay."""
        session = current(ctx)
        session.service.unpublish(dataset_id)
        _summary(session, dataset_id, "is unpublished")

    @app.command("delete")
    def delete(
        ctx: typer.Context,
        ids: Annotated[list[str], typer.Argument(metavar="ID...")],
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        purge: Annotated[bool, typer.Option("--purge", help="Of a dataset: remove its versions' bytes too.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    ) -> None:
        """Delete datasets or records: off every face at once; `restore` brings them back."""
        session = current(ctx)
        if not any((record := _found(session, each)) is not None and record.kind == "dataset" for each in ids):
            if purge:
                raise Usage("--purge is for datasets; a record goes for good by `cubeport purge`.")
            records.delete(ctx, ids, yes=yes, dry_run=dry_run)
            return
        found = [session.service.dataset(each) for each in ids]
        if not dry_run:
            session.confirm(f"Delete {', '.join(each.state.texts.dataset_id for each in found)}?", yes=yes)
        done = [
            {"dataset_id": each.state.texts.dataset_id, "status": "active", "record_version": each.record.version} for each in found
        ]
        for each in () if dry_run else done:
            deleted = session.service.delete(each["dataset_id"], purge=purge)
            each |= {"status": "deleted", "record_version": deleted.version}
        words = "would delete" if dry_run else "deleted"
        session.result({"kind": "DatasetList", "items": done}, "\n".join(f"{words} {each['dataset_id']}" for each in done))

    @app.command("restore")
    def restore(
        ctx: typer.Context,
        ids: Annotated[list[str], typer.Argument(metavar="ID...")],
        dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    ) -> None:
        """Bring deleted datasets back, unpublished, or deleted records."""
        session = current(ctx)
        found = [_found(session, each) for each in ids]
        if dry_run or all(each is not None and each.kind != "dataset" for each in found):
            records.restore(ctx, ids, dry_run=dry_run)
            return
        for name, record in zip(ids, found, strict=True):
            dataset_id = record.metadata["dataset"]["texts"]["dataset_id"] if record and record.kind == "dataset" else name
            session.service.restore(dataset_id)
            _summary(session, dataset_id, "is restored, unpublished")


def _found(session: Session, name: str) -> CatalogRecord | None:
    """Return the record that a name means, if any: a deleted dataset has given up its id, so its name means none."""
    try:
        return session.catalog().get(name)
    except RecordNotFound:
        return None


def _summary(session: Session, dataset_id: str, words: str) -> None:
    from cubeport.documents import native

    service: Service = session.service
    shown = service.shown(dataset_id, unpublished=True)
    session.result(native.summary(shown, service.public_url).model_dump(mode="json"), f"{dataset_id} {words}.")


def ingest(session: Session, sources: Sequence[str], flags: Mapping[str, Any]) -> int | None:
    """Ingest a template, or the caller's own files with ``--id``; print the ingestion, return the exit code."""
    from pydantic import ValidationError

    from cubeport.catalog.models import invalid
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    if flags.get("id") is None and len(sources) != 1:
        raise Usage("Name one template, or files with --id.", next_step="cubeport templates")
    asked: dict[str, Any] = {
        "dataset_id": flags.get("id") or sources[0],
        "start": flags.get("start"),
        "end": flags.get("end"),
        "extent_id": flags.get("extent"),
        "overwrite": bool(flags.get("overwrite")),
        "publish": flags.get("publish"),
        "tag": flags.get("tag"),
        "dry_run": bool(flags.get("dry_run")),
        "mode": "replace" if flags.get("replace") else None,
    }
    options: dict[str, Any] = {}
    if flags.get("id") is not None:
        options = {
            "files": [str(Path(source).absolute()) for source in sources],
            "attributes": _json(flags.get("attrs"), "--attrs"),
            "append_dim": flags.get("append_dim"),
            "group": flags.get("group"),
        }
    try:
        request = IngestionRequest.model_validate(asked | _template_fields(flags))
        done = session.service.ingest_here(request, FileOptions.model_validate(options), listener=_bar(session))
    except ValidationError as exc:
        raise invalid("request", exc) from None
    return _report(session, done)


def _template_fields(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``template`` as a file of its fields says it, and the flags above that."""
    written: dict[str, Any] = {}
    if (file := flags.get("template")) is not None:
        if not Path(file).is_file():
            raise Usage(f"--template takes a YAML file of template fields; there is no file {file}.")
        document = strictyaml.read(Path(file))
        if not isinstance(document.value, dict):
            raise InvalidConfiguration(f"{document.name}: must be a mapping of template fields")
        written = document.value
    names = flags.get("variables")
    fields = {
        "title": flags.get("title"),
        "license": flags.get("license"),
        "period_type": flags.get("period_type"),
        "variables": [v.strip() for v in names.split(",")] if names else None,
        "layout": {"chunks": chunks} if (chunks := _json(flags.get("chunks"), "--chunks")) else None,
    }
    given = written | {name: value for name, value in fields.items() if value is not None}
    return {"template": given} if given else {}


def _report(session: Session, done: Ingestion) -> int:
    document = _ingestion_document(session.service, done)
    if done.status == "planned":
        assert done.plan is not None
        session.result(document, f"{done.dataset_id}: would {done.plan.action}: {done.plan.reason}.")
        return 0
    if done.error is not None:
        if session.options.json:
            session.write(json.dumps(document, indent=2, sort_keys=True))
        return session.fail(CubeportError.from_mapping(done.error))
    session.warn(each["message"] for each in done.warnings)
    words = "nothing changed, the same is held already" if done.reused else _PAST[done.action or "create"]
    session.result(document, f"{done.dataset_id}: {words} (version {done.version_id}).")
    return 0


_PAST = {
    "create": "created",
    "append": "appended",
    "extend": "extended",
    "revise": "revised",
    "replace": "replaced",
    "rematerialize": "made anew",
}


def _ingestion_document(service: Service, done: Ingestion) -> dict[str, Any]:
    from cubeport.service.present import ingestion

    return ingestion(service, done, service.public_url)


def _demo_one(session: Session, request: Mapping[str, Any]) -> Ingestion:
    from cubeport.service.ingestions import IngestionRequest

    done: Ingestion = session.service.ingest_here(
        IngestionRequest.model_validate(request), listener=_bar(session, request["dataset_id"])
    )
    if done.error is not None:
        raise CubeportError.from_mapping(done.error)
    session.note(f"{done.dataset_id}: {'held already' if done.reused else 'made and published'}")
    return done


def _serve(
    session: Session,
    wiring: ServiceWiring,
    root: Path,
    flags: Mapping[str, Any],
    *,
    jobs: bool,
    datasets: Sequence[str] = (),
) -> int:
    given = {name: value for name, value in flags.items() if value is not None}
    return wiring.serve(root, announce=lambda url: session.write(_faces(url, datasets)), jobs=jobs, **given)


def _faces(url: str, datasets: Sequence[str]) -> str:
    """Return the table of addresses that a person needs first."""
    if not datasets:
        faces = (
            ("pages", "/"),
            ("STAC", "/stac"),
            ("Zarr", "/zarr/{id}"),
            ("OGC API", "/ogcapi"),
            ("datasets", "/datasets"),
            ("API", "/docs"),
        )
        return "\n".join(f"{name:<9} {url}{path}" for name, path in faces) + "\nCtrl-C ends it."
    lines = [f"Serving at {url}/  (API: {url}/docs). Ctrl-C ends it.", ""]
    for dataset_id in datasets:
        lines += [
            dataset_id,
            f"  STAC    {url}/stac/collections/{dataset_id}",
            f"  Zarr    {url}/zarr/{dataset_id}",
            f"  OGC API {url}/ogcapi/collections/{dataset_id}",
        ]
    return "\n".join(lines)


def _bar(session: Session, name: str | None = None) -> Callable[[str, int, int], None] | None:
    """Return a listener that draws one line on a terminal; elsewhere each phase is a line on stderr."""
    if not session.options.progress or session.options.quiet:
        return None
    terminal = sys.stderr.isatty()
    last = ""

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal last
        share = f" {100 * done // total:>3} %" if total else ""
        label = f"{name}: " if name else ""
        if terminal:
            sys.stderr.write(f"\r\x1b[K{label}{phase}{share}" if phase != "done" else "\r\x1b[K")
            sys.stderr.flush()
        elif phase not in (last, "done"):
            sys.stderr.write(f"{label}{phase}\n")
        last = phase

    return tell


def _span(periods: Any) -> str:
    return f"{periods.start} … {periods.end}" if periods else ""


def _bbox(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise Usage("--bbox takes west,south,east,north in degrees.")
    return box


def _json(text: str | None, flag: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InvalidRequest(f"{flag} takes a JSON object.") from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"{flag} takes a JSON object.")
    return value
