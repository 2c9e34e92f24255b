"""Commands for datasets and their versions: list, describe, publish, unpublish, delete, restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cubeport.catalog.forms.strictjson import strict_json
from cubeport.cli import _output, records
from cubeport.cli._app import group
from cubeport.cli._completion import dataset_ids, deleted_ids, record_ids
from cubeport.cli._progress import size
from cubeport.cli._session import Session, current
from cubeport.cli._verbs import whole_ref, whole_version
from cubeport.documents.licences import in_words
from cubeport.errors import RecordNotFound, Usage

if TYPE_CHECKING:
    from cubeport.catalog.models import CatalogRecord
    from cubeport.cli._verbs import Verbs
    from cubeport.service.service import Service

DatasetId = Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.", autocompletion=dataset_ids)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (
        datasets,
        versions,
        diff,
        changes,
        describe,
        refresh,
        publish,
        unpublish,
        rollback,
        tag,
        delete,
        restore,
        usage,
    ):
        app.command(command.__name__)(command)
    group(app, "export").command("stac")(export_stac)
    group(app, "export").command("static")(export_stac)  # the name that the specification has
    group(app, "export").command("zarr")(export_zarr)


Sort = Literal["dataset_id", "-dataset_id", "dataset_name", "-dataset_name", "last_updated", "-last_updated"]


def datasets(
    ctx: typer.Context,
    dataset_id: Annotated[str | None, typer.Argument(metavar="ID", help="Show this dataset.", autocompletion=dataset_ids)] = None,
    q: Annotated[str | None, typer.Option(help="Words in the title, description, keywords, id or names of variables.")] = None,
    bbox: Annotated[str | None, typer.Option(help="west,south,east,north in degrees.")] = None,
    datetime: Annotated[str | None, typer.Option(help="An instant, or a/b with .. for an open end.")] = None,
    variable: Annotated[str | None, typer.Option(help="The name of a variable.")] = None,
    period_type: Annotated[str | None, typer.Option("--period-type", help="daily, monthly, …")] = None,
    keyword: Annotated[str | None, typer.Option(help="A keyword.")] = None,
    license: Annotated[str | None, typer.Option(help="The license, as pages show it.")] = None,
    template: Annotated[str | None, typer.Option(help="The template they were made from.")] = None,
    extent: Annotated[str | None, typer.Option(help="The named area that they cover.")] = None,
    updated_since: Annotated[str | None, typer.Option("--updated-since", help="Changed since a date, a timestamp, 7d, 2h.")] = None,
    publication: Annotated[str | None, typer.Option(help="published, unpublished or any. Default: all that you may see.")] = None,
    sort: Annotated[
        Sort | None, typer.Option(help="The field to sort by, with - for descending order. Default: dataset_id.")
    ] = None,
    limit: Annotated[int, typer.Option(help="The maximum number of results.", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
) -> None:
    """List datasets, or show one."""
    session = current(ctx)
    if dataset_id is not None:
        document = session.verbs.dataset(whole_ref(session.verbs, dataset_id))
        session.result(document, lambda: _facts(document))
        return
    from cubeport.catalog.events import instant_of

    query = {
        "q": q,
        "bbox": _bbox(bbox),
        "datetime": datetime,
        "variable": variable,
        "period_type": period_type,
        "keyword": keyword,
        "license": license,
        "source_dataset_id": template,
        "extent_id": extent,
        "updated_since": instant_of(updated_since, ends=False),
        "publication": publication,
        "sort": sort,
        "cursor": cursor,
    }
    given = {name: value for name, value in query.items() if value is not None}
    listing = session.verbs.datasets(**given, limit=limit)
    session.warn(f"dataset {each} cannot be read and is skipped; next: cubeport fsck" for each in listing.get("damaged", ()))
    if not listing["items"]:
        narrowed = given.keys() - {"sort"}
        session.note(
            "No dataset matches." if narrowed else "There are no datasets: make one with cubeport ingest FILES... --id NAME."
        )
    rows = [
        (
            each["dataset_id"],
            each["publication"]["status"],
            _few([variable["name"] for variable in each["variables"]]),
            _span(each["extent"]["temporal"]),
            each["dataset_name"],
        )
        for each in listing["items"]
    ]
    session.result(listing, lambda: _output.table(rows, ("dataset", "state", "variables", "time", "title")))


def versions(ctx: typer.Context, dataset_id: DatasetId) -> None:
    """List the versions of a dataset, newest first."""
    session = current(ctx)
    found = session.verbs.versions(dataset_id)
    rows = [
        [each["version_id"], each["seq"], each["kind"], each["state"], _output.moment(each["created_at"]), ", ".join(each["tags"])]
        for each in found
    ]
    heads = ["version", "seq", "kind", "state", "created (utc)", "tags"]
    if not any(each["tags"] for each in found):  # a line of a terminal has room for whole ids without them
        rows, heads = [row[:-1] for row in rows], heads[:-1]
    session.result({"kind": "VersionList", "items": found}, lambda: _output.table(rows, heads))


def diff(
    ctx: typer.Context,
    old: Annotated[
        str,
        typer.Argument(
            metavar="ID@OLD", help="The older version: id@version or id@tag; or the id alone.", autocompletion=dataset_ids
        ),
    ],
    new: Annotated[
        str | None,
        typer.Argument(metavar="ID@NEW", help="The newer version. Default: the published one.", autocompletion=dataset_ids),
    ] = None,
    newer: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
) -> None:
    """Show what changed from one version to another: coordinates, steps, values, attributes."""
    session = current(ctx)
    dataset_id, first, second = _versions_named(old, new, newer)
    whole = [whole_version(session.verbs, dataset_id, each) for each in (first, second)]
    found = session.verbs.diff(dataset_id, *whole)
    session.result(found, lambda: _told(found))


def _versions_named(old: str, new: str | None, newer: str | None) -> tuple[str, str, str]:
    """Return the dataset and the two versions of ``ID@A [ID@B]`` or ``ID A [B]``."""
    dataset_id, at, first = old.partition("@")
    if not at:
        if new is None:
            raise Usage("Name the older version.", next_step=f"cubeport versions {dataset_id}")
        first, second = new, newer or "latest"
        return dataset_id, first, second
    if newer is not None:
        raise Usage("Name two versions.", next_step=f"cubeport diff {old} {new}")
    other, at, second = (new or f"{dataset_id}@latest").partition("@")
    if not at:
        return dataset_id, first, other
    if other != dataset_id:
        raise Usage(f"{dataset_id} and {other} are two datasets: name two versions of one.")
    return dataset_id, first, second


def _told(found: Mapping[str, Any]) -> str:
    """Return the difference for people, one fact on each line."""
    if found["equal"]:
        return "The versions are equal in every coordinate, value and attribute."
    lines = []
    for each in found["dimensions"]:
        for word in ("added", "removed"):
            labels = each[word]
            if labels["count"]:
                span = f"{labels['first']} … {labels['last']}" if labels["count"] > 1 else f"{labels['first']}"
                lines.append(f"{each['dimension']}: {labels['count']} {word}: {span}")
        if each["reordered"]:
            lines.append(f"{each['dimension']}: in another order")
    lines += [f"variable {name}: added" for name in found["variables"]["added"]]
    lines += [f"variable {name}: removed" for name in found["variables"]["removed"]]
    for variable in found["variables"]["changed"]:
        lines += [f"variable {variable['name']}: {name} {pair[0]} → {pair[1]}" for name, pair in variable["form"].items()]
        if variable["changed"]:
            steps, largest = variable["steps"], variable["largest"]
            where = "" if steps is None else f" in 1 step, {steps['first']}"
            if steps is not None and steps["count"] > 1:
                where = f" in {steps['count']} steps, {steps['first']} … {steps['last']}"
            most = f"; largest difference {largest['absolute']:g}" if largest is not None else ""
            lost = f"; {variable['became_missing']} became missing" if variable["became_missing"] else ""
            lines.append(f"variable {variable['name']}: {variable['changed']} values changed{where}{most}{lost}")
    lines += [
        f"attribute {each['variable'] + '.' if each['variable'] else ''}{each['name']}: {each['old']!r} → {each['new']!r}"
        for each in found["attributes"]
    ]
    return "\n".join(lines)


def describe(
    ctx: typer.Context,
    dataset_id: DatasetId,
    title: Annotated[str | None, typer.Option(help="The title.")] = None,
    description: Annotated[str | None, typer.Option(help="A description in a few sentences.")] = None,
    short_name: Annotated[str | None, typer.Option(help="A shorter title.")] = None,
    keywords: Annotated[str | None, typer.Option(help="Keywords for searches, separated by commas.")] = None,
    license: Annotated[str | None, typer.Option(help="An SPDX identifier, for example CC-BY-4.0.")] = None,
    license_url: Annotated[str | None, typer.Option(help="The address of the license text.")] = None,
    providers: Annotated[str | None, typer.Option(metavar="JSON", help='A list: [{"name": …, "roles": ["producer"]}].')] = None,
    attribution: Annotated[str | None, typer.Option(help="The line that users of the data must show.")] = None,
    citation: Annotated[str | None, typer.Option(help="How to cite it.")] = None,
    doi: Annotated[str | None, typer.Option(help="Its DOI.")] = None,
    render: Annotated[str | None, typer.Option(metavar="JSON", help='How to draw it: {"colormap": …, "range": […]}.')] = None,
    units: Annotated[str | None, typer.Option(help="The units to show.")] = None,
    resolution: Annotated[str | None, typer.Option(help="The resolution, as text.")] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Reset a text to that of the template or the data.")
    ] = None,
) -> None:
    """Set the texts of a dataset, such as title and license. Every face shows them at the next request. Makes no new version."""
    session = current(ctx)
    said = {
        "title": title,
        "description": description,
        "short_name": short_name,
        "keywords": None if keywords is None else [word.strip() for word in keywords.split(",") if word.strip()],
        "license": license,
        "license_url": license_url,
        "providers": _json(providers, "--providers"),
        "attribution": attribution,
        "citation": citation,
        "doi": doi,
        "render": _json(render, "--render"),
        "units": units,
        "resolution": resolution,
    }
    texts = {name: value for name, value in said.items() if value is not None}
    texts |= {name.replace("-", "_"): None for name in unset or ()}
    before = session.verbs.state(dataset_id)["record_version"]
    document = session.verbs.describe(dataset_id, texts)
    changed = document["record_version"] != before
    words = (
        f"{dataset_id} has new texts: {', '.join(texts)}." if changed else f"Nothing changed: {dataset_id} has these texts already."
    )
    if texts.keys() & {"license", "license_url"}:
        session.warn(each["message"] for each in document["warnings"])
    session.result(document, words)


def refresh(
    ctx: typer.Context,
    dataset_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A dataset. Default: all datasets.", autocompletion=dataset_ids)
    ] = None,
    overviews: Annotated[bool, typer.Option("--overviews", help="Also make missing overviews of published versions.")] = False,
) -> None:
    """Update texts from the templates, and what searches know. Texts set by `describe` are kept. Versions stay as they are."""
    session = current(ctx)
    if overviews and session.options.url:
        raise Usage(
            "--overviews reads and writes stored versions, on the machine that has them.",
            next_step=f"cubeport refresh {dataset_id or ''}".rstrip(),
        )
    names = [dataset_id] if dataset_id is not None else _every(session.verbs)
    changed = [name for name in names if session.verbs.refresh(name)]
    made = {name: versions for name in (names if overviews else ()) if (versions := session.service.make_overviews(name))}
    lines = [f"{name}: changed" for name in changed]
    lines += [f"{name}: overviews of {', '.join(versions)}" for name, versions in made.items()]
    session.result({"refreshed": changed, "overviews": made}, "\n".join(lines) or "Nothing changed.")


def _every(verbs: Verbs) -> list[str]:
    """Return the ids of all datasets."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = verbs.datasets(limit=1000, **({"cursor": cursor} if cursor is not None else {}))
        found += [each["dataset_id"] for each in page["items"]]
        if (cursor := page.get("next")) is None:
            return found


def publish(
    ctx: typer.Context,
    dataset_id: DatasetId,
    version: Annotated[
        str | None, typer.Option(help="A version id, its first characters, or a tag. Default: the newest version.")
    ] = None,
) -> None:
    """Make the dataset visible on every face."""
    session = current(ctx)
    whole = whole_version(session.verbs, dataset_id, version) if version else None
    session.result(session.verbs.publish(dataset_id, whole), f"{dataset_id} is published.")


def unpublish(ctx: typer.Context, dataset_id: DatasetId) -> None:
    """Remove the dataset from every face. Its versions are kept."""
    session = current(ctx)
    session.result(session.verbs.unpublish(dataset_id), f"{dataset_id} is unpublished.")


def rollback(
    ctx: typer.Context,
    dataset_id: DatasetId,
    to: Annotated[str, typer.Option(help="A version id, its first characters, or a tag.")],
) -> None:
    """Go back to a version. Readers see it at once; later versions stay listed."""
    session = current(ctx)
    done = session.verbs.rollback(dataset_id, whole_version(session.verbs, dataset_id, to))
    session.result(done, f"{dataset_id} is back at {to}.")


def tag(
    ctx: typer.Context,
    dataset_id: DatasetId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tag.")],
    version: Annotated[
        str, typer.Option(help="A version id, its first characters, or another tag. Default: the published version.")
    ] = "latest",
    delete: Annotated[bool, typer.Option("--delete", help="Remove the tag, but keep the version.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move a tag from another version to this one.")] = False,
) -> None:
    """Name a version, so that readers can pin it as ID@NAME. Retention keeps tagged versions."""
    session = current(ctx)
    if delete:
        session.result(session.verbs.untag(dataset_id, name), f"{dataset_id} has no tag {name} any more.")
        return
    whole = whole_version(session.verbs, dataset_id, version)
    session.result(session.verbs.tag(dataset_id, name, version=whole, force=force), f"{dataset_id} has the tag {name}.")


def changes(
    ctx: typer.Context,
    dataset_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only changes of this dataset.", autocompletion=dataset_ids)
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
    limit: Annotated[int, typer.Option(help="The maximum number of results.", min=1, max=1000)] = 100,
) -> None:
    """List the changes that readers could see, oldest first."""
    session = current(ctx)
    page = session.verbs.changes(cursor=cursor, dataset_id=dataset_id, limit=limit)
    if not page["items"]:
        session.note(f"There are no {'further ' if cursor else ''}changes that readers could see.")
    rows = [
        (_output.moment(each["time"]), each["dataset_id"], each["reason"], each["type"], each["version_id"])
        for each in page["items"]
    ]
    session.result(page, lambda: _output.table(rows, ("time (utc)", "dataset", "reason", "type", "version")))


def delete(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Datasets or records.", autocompletion=record_ids)],
    yes: records.Yes = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="For datasets: remove all versions for good, and their bytes after retention.grace_min.")
    ] = False,
    dry_run: records.DryRun = False,
) -> None:
    """Delete datasets or records from every face at once. `restore` brings them back."""
    session = current(ctx)
    if not session.options.url and not any(
        (record := _found(session, each)) is not None and record.kind == "dataset" for each in ids
    ):
        if purge:
            raise Usage("--purge is for datasets; to remove a record for good use `cubeport purge`.")
        records.delete(ctx, ids, yes=yes, dry_run=dry_run)
        return
    done = [session.verbs.state(each) for each in ids]
    if not dry_run:
        session.confirm(f"Delete {', '.join(each['dataset_id'] for each in done)}?", yes=yes)
        done = [session.verbs.delete(each["dataset_id"], purge=purge) for each in done]
    if purge and not dry_run:
        session.note("Readers that began before finish: the bytes go after retention.grace_min, by the server or `cubeport gc`.")
    words = "would delete" if dry_run else "deleted"
    session.result({"kind": "DatasetList", "items": done}, "\n".join(f"{words} {each['dataset_id']}" for each in done))


def restore(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Deleted datasets or records.", autocompletion=deleted_ids)],
    dry_run: records.DryRun = False,
) -> None:
    """Restore deleted datasets or records. Datasets are restored unpublished."""
    session = current(ctx)
    if session.options.url:
        if dry_run:
            raise Usage("--dry-run is for records in a folder; a service restores at once.")
        names = list(ids)
    else:
        found = [_found(session, each, deleted=True) for each in ids]
        if dry_run or all(each is not None and each.kind != "dataset" for each in found):
            records.restore(ctx, ids, dry_run=dry_run)
            return
        names = [record.id if record and record.kind == "dataset" else name for name, record in zip(ids, found, strict=True)]
    for name in names:
        restored = session.verbs.restore(name)
        dataset_id = restored["dataset_id"]
        session.result(restored, f"{dataset_id} is restored, unpublished.")
        session.note(f"next: cubeport publish {dataset_id}")


def _facts(document: dict[str, Any]) -> str:
    """Return the main facts about a dataset for people; ``--json`` has all."""
    extent = document["extent"]
    # Of a projected grid, the box in degrees is a list, and the other one is in its own units.
    native = extent.get("spatial")
    space = extent.get("spatial_wgs84") or (native and [native[each] for each in ("xmin", "ymin", "xmax", "ymax")])
    box = f"{', '.join(f'{edge:g}' for edge in space)} (west, south, east, north)" if space else None
    newest = document["versions"][0] if document["versions"] else None
    facts = {
        "title": document["dataset_name"],
        "description": document["description"] if document["description"] != document["dataset_name"] else None,
        "state": document["publication"]["status"],
        "time": f"{extent['temporal']['start']} to {extent['temporal']['end']}" if extent.get("temporal") else None,
        "periods": document["period_type"],
        "calendar": document["calendar"],
        "place": box,
        "variables": [
            f"{each['name']} ({', '.join(each['dimensions'])}) {'x'.join(map(str, each['shape']))} {each['units'] or ''}".rstrip()
            for each in document["variables"]
        ],
        "license": in_words(document["license"], document["license_url"]),
        "attribution": document["attribution"],
        "versions": f"{len(document['versions'])}; newest {newest['version_id'][:8]} of {newest['created_at']}" if newest else None,
        "warnings": [each["message"] for each in (*document["warnings"], *((newest.get("warnings") or ()) if newest else ()))],
        "links": {
            each["rel"]: each["href"]
            for each in document["links"]
            if each["rel"] in ("self", "stac", "zarr", "ogc-collection", "download")
        },
    }
    lines = _output.tree({name: value for name, value in facts.items() if not isinstance(value, list)})
    lists = [
        f"{name}:" + "".join(f"\n  {_output.printable(each)}" for each in value)
        for name, value in facts.items()
        if isinstance(value, list) and value
    ]
    return "\n".join([lines, *lists])


def usage(ctx: typer.Context) -> None:
    """Show how many bytes every dataset and version uses, and what retention would free."""
    session = current(ctx)
    used = session.verbs.usage()
    columns = ("state", "size_bytes", "own_bytes", "shared_bytes")
    rows = [
        (each["dataset_id"], version["version_id"][:8], *(version[name] for name in columns))
        for each in used["datasets"]
        for version in each["versions"]
    ]
    session.result(used, lambda: _output.table(rows, ("dataset", "version", "state", "bytes", "own", "shared")))
    free = used["would_free_bytes"]
    words = f"retention would free {size(free)}" if free else "retention would free nothing"
    session.note(f"{size(used['size_bytes'])} in all; {words}")
    if free:
        session.note("`cubeport gc`, or the server, frees it when retention.grace_min has passed since a version was removed.")


def _found(session: Session, name: str, *, deleted: bool = False) -> CatalogRecord | None:
    """Return the record that a name means, if any. A deleted dataset has no id any longer, so its name means none."""
    catalog = session.catalog()
    try:
        return catalog.even_deleted(name) if deleted else catalog.get(name)
    except RecordNotFound:
        return None


def _json(text: str | None, flag: str) -> Any:
    if text is None:
        return None
    try:
        return strict_json(text)
    except ValueError as exc:
        raise Usage(f"{flag} must be JSON: {exc}.") from None


def _few(names: Sequence[str]) -> str:
    """Return names for a row: up to three, and how many more there are."""
    return ", ".join((*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else ())))


def _span(periods: Mapping[str, Any] | None) -> str:
    return _output.between(periods["start"], periods["end"], " … ") if periods else ""


def _bbox(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise Usage("--bbox must be west,south,east,north in degrees.")
    return box


def export_stac(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Published datasets; by default all.", autocompletion=dataset_ids)
    ] = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Older versions too.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="The address at which the folder will be served, for absolute links to the stores.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link/--copy", help="Link to the chunks of the instance, or copy them; links take no space.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
) -> None:
    """Write published datasets as static STAC with their Zarr stores, for any file server."""
    session = current(ctx)
    service: Service = session.service
    found = service.export_stac(folder, ids or (), all_versions=all_versions, url=url, link=link, dry_run=dry_run)
    verb = "would write" if dry_run else "wrote"
    collections, items = (
        f"{n} {name}{'' if n == 1 else 's'}" for n, name in ((found.collections, "collection"), (found.items, "item"))
    )
    words = f"{verb} {collections} with {items} ({found.size_bytes:,} bytes of Zarr) to {folder}"
    session.result({"kind": "StacExport", **_output.plain(found)}, words)


def export_zarr(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(metavar="ID[@REF]", help="A published dataset, as id, id@version or id@tag.", autocompletion=dataset_ids),
    ],
    to: Annotated[str, typer.Option("--to", help="A folder, or s3://bucket/prefix below a profile with use: [export].")],
    check: Annotated[bool, typer.Option("--check", help="Read each object back and compare its checksum.")] = False,
) -> None:
    """Write a version as plain Zarr v3 that any reader opens. If an export was stopped, it continues."""
    session = current(ctx)
    service: Service = session.service
    found = service.export_zarr(ref, to, check=check)
    words = f"{found.url}: wrote {found.written} of {found.objects} objects ({found.written_bytes} bytes) of {ref}"
    words += ", all compared" if check else ""
    if service.shown(ref).version.copies:
        session.note(f"The NetCDF copy of {ref} is not exported: only its Zarr is.")
    session.result({"kind": "ZarrExport", **_output.plain(found)}, words)
