"""Commands on records: add, search, show, path, edit, delete, restore, purge."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _afar, _output, _values
from cubeport.cli._completion import record_ids
from cubeport.cli._session import Session, current
from cubeport.errors import ArtifactMissing, NoMatch, RecordNotFound, Usage

if TYPE_CHECKING:
    from cubeport.catalog.models import CatalogRecord

Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID", help="Ids, keys, or the first characters of an id (4 or more).", autocompletion=record_ids),
]
Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="An id, a key, or the first characters of an id (4 or more).", autocompletion=record_ids),
]
Terms = Annotated[list[str] | None, typer.Argument(metavar="TERM", help='"FIELD OP VALUE" (= != < <= > >= : ~) or "FIELD?".')]
Not = Annotated[list[str] | None, typer.Option("--not", metavar="TERM", help="A term that must not match.")]
Metas = Annotated[list[str] | None, typer.Option("--meta", metavar="FIELD=VALUE", help="Metadata. Repeatable.")]
MetaText = Annotated[
    list[str] | None,
    typer.Option("--meta-text", metavar="FIELD=TEXT", help="Metadata as text, whatever it looks like: 1.10, null."),
]
MetaJson = Annotated[list[str] | None, typer.Option("--meta-json", metavar="FIELD=JSON", help="Metadata as JSON.")]
MetaFile = Annotated[Path | None, typer.Option("--meta-file", metavar="FILE", help="Metadata from a JSON or YAML file.")]
Visibility = Annotated[
    str | None,
    typer.Option("--visibility", help="Who sees it over HTTP: public, project or private."),
]
ArtifactName = Annotated[str | None, typer.Option("--artifact", help="Its id, role or original name. Default: the primary one.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, without writing anything.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in _COMMANDS.items():
        app.command(name)(command)


def add(
    ctx: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="PATH|URL|-", help="A file, a folder, an address, or - for stdin. Default: no bytes.")
    ] = None,
    meta: Metas = None,
    meta_text: MetaText = None,
    meta_json: MetaJson = None,
    meta_file: MetaFile = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    description: Annotated[str | None, typer.Option("--description")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Repeatable.")] = None,
    visibility: Visibility = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Default: document.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="32 hex digits; default: random.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="A unique name that you choose.")] = None,
    on_exists: Annotated[
        str, typer.Option("--on-exists", help="What to do if the key exists: error, skip, new_version.")
    ] = "error",
    schema: Annotated[str | None, typer.Option("--schema", metavar="NAME[@VERSION]")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="off, warn or strict.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="The storage profile.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the bytes (the default for paths).")] = False,
    move: Annotated[bool, typer.Option("--move", help="Remove the source once the record is committed.")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="Leave the bytes where they are.")] = False,
    role: Annotated[str | None, typer.Option("--role", help="Default: primary.")] = None,
    media_type: Annotated[str | None, typer.Option("--media-type")] = None,
    format: Annotated[str | None, typer.Option("--format", help="netcdf, zarr, csv…")] = None,
    directory_template: Annotated[str | None, typer.Option("--directory-template")] = None,
    filename_template: Annotated[str | None, typer.Option("--filename-template")] = None,
    filename: Annotated[str | None, typer.Option("--filename", help="The name of the bytes.")] = None,
    unzip: Annotated[bool, typer.Option("--unzip", help="Store the one file in a zip.")] = False,
    hash: Annotated[str | None, typer.Option("--hash", help="sha256: hash a reference too.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="A/B")] = None,
    bbox: Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N")] = None,
    link: Annotated[list[str] | None, typer.Option("--link", metavar="REL=ID", help="A lineage edge. Repeatable.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="ID", help="Add the bytes to this record.")] = None,
    original_name: Annotated[
        str | None, typer.Option("--original-name", help="The original name. Default: the name of the file.")
    ] = None,
    duplicates: Annotated[
        str, typer.Option("--duplicates", help="If a record has the same bytes: allow, skip or error.")
    ] = "allow",
    extract_metadata: Annotated[bool, typer.Option("--extract-metadata", help="Read metadata from the bytes.")] = False,
    require_metadata: Annotated[bool, typer.Option("--require-metadata", help="Fail if this fails.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Add a record, with or without bytes."""
    session = current(ctx)
    mode = _values.only_one(copy=copy, move=move, reference=reference)
    if hash not in (None, "sha256"):
        raise Usage("--hash must be sha256; the storage profile says whether copied bytes are hashed (hash: none).")
    catalog = session.catalog()
    of_record: dict[str, Any] = {
        "title": title,
        "description": description,
        "tags": tag,
        "kind": kind,
        "id": id,
        "key": key,
        "visibility": visibility,
        "time": _values.time_of(time),
        "bbox": _values.bbox_of(bbox),
        "lineage": _values.links_of(link or ()),
        **_values.schema_of(catalog, schema),
    }
    said: dict[str, Any] = {name: value for name, value in of_record.items() if value}
    metadata = _values.metadata_of(meta or (), meta_file, texts=meta_text or (), documents=meta_json or ())
    if to is not None and said:
        raise Usage(f"--to adds bytes to an existing record; change the record itself with `cubeport edit {to}`.")
    said |= {"on_exists": on_exists, "schema_policy": policy, "dry_run": dry_run}
    of_bytes: dict[str, Any] = {
        "profile": profile,
        "role": role,
        "media_type": media_type,
        "format": format,
        "directory_template": directory_template,
        "filename_template": filename_template,
        "hash": hash == "sha256",
        "extract_metadata": extract_metadata or require_metadata,
        "require_metadata": require_metadata,
        "original_name": original_name,
        "duplicates": duplicates if duplicates != "allow" else None,
    }
    if source is None and (to or mode or filename or unzip or any(of_bytes.values())):
        raise Usage("These flags describe bytes, but there is no path, address or -.", next_step="cubeport add PATH …")
    if source is None:
        added = catalog.add(metadata, **said)
    elif source == "-":
        if mode is not None or unzip:
            raise Usage("Bytes from stdin can only be stored.")
        said |= of_bytes
        data = sys.stdin.buffer
        if to is None:
            added = catalog.add_bytes(data, metadata, filename=filename, **said)
        else:
            added = catalog.add_artifact(metadata, record=to, source=data, filename=filename, **said)
    elif _values.is_url(source):
        if mode in ("copy", "move") or unzip:
            raise Usage("cubeport stores only a reference to an address; download its bytes with `cubeport fetch` afterwards.")
        added = catalog.add_artifact(metadata, record=to, locator=source, **said, **of_bytes)
    else:
        added = _add_path(catalog, source, metadata, mode, to, unzip=unzip, filename=filename, said=said | of_bytes)
    session.warn(added.warnings)
    session.result(added, lambda: f"{added.outcome} {added.record.id}{_where(added)}")


def _add_path(
    catalog: Any,
    source: str,
    metadata: dict[str, Any],
    mode: str | None,
    to: str | None,
    *,
    unzip: bool,
    filename: str | None,
    said: dict[str, Any],
) -> Any:
    from cubeport.catalog.artifacts.writers import PathSource, path_source

    if unzip and mode is not None and mode != "copy":
        raise Usage(f"--unzip writes another file, so it cannot be combined with --{mode}.")
    # The twin checks whether it exists, because its refusals are in the event log.
    path = PathSource(Path(source).absolute(), "zip_file") if unzip else Path(source)
    if to is None:
        return catalog.add_file(path, metadata, operation=mode or "copy", filename=filename, **said)
    if mode == "move":
        raise Usage("--to accepts --copy or --reference.")
    if mode == "reference":
        return catalog.add_artifact(metadata, record=to, locator=path_source(source).path, **said)
    return catalog.add_artifact(metadata, record=to, source=path, filename=filename, **said)


def _where(added: Any) -> str:
    plan = added.plan
    if plan is None or plan.relative_path is None:
        return ""
    from cubeport.catalog.keeping.integrity import shown

    place = shown(added.record.artifacts[-1]) if added.outcome == "added" else f"{plan.profile}:{plan.relative_path}"
    return f"  {place}"


def search(
    ctx: typer.Context,
    terms: Terms = None,
    not_: Not = None,
    text: Annotated[str | None, typer.Option("--text", help="Words in the title, description, tags or key.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="A/B", help="Overlaps this time: 2020-03, A/B, ../B.")] = None,
    bbox: Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Overlaps this area.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Any of them may match: --kind a,b or repeated.")] = None,
    status: Annotated[list[str] | None, typer.Option("--status", help="Default: active; any for all.")] = None,
    order: Annotated[
        list[str] | None, typer.Option("--order", help="Fields; with - in front, descending. Default: -created_at.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="0: all.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="The cursor that the previous page printed.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the number of matches.")] = False,
    first: Annotated[bool, typer.Option("--first", help="Print only the first match.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print one id per line.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print one local path per line.")] = False,
    fields: Annotated[str | None, typer.Option("--fields", metavar="F,F", help="The columns.")] = None,
    format: Annotated[str, typer.Option("--format", help="table, compact, csv, or a plugin's.")] = "table",
) -> None:
    """Find records. Exits with 3 if a filter matches none."""
    session = current(ctx)
    _values.only_one(ids=ids, paths=paths, fields=fields)
    asked: dict[str, Any] = {
        "text": text,
        "time": time,
        "bbox": _values.bbox_of(bbox),
        "kinds": [part for each in kind or () for part in each.split(",") if part] or None,
        "statuses": None if status and "any" in status else status or {"active"},
    }
    filtered = bool(
        terms or not_ or kind or (status and asked["statuses"]) or any(asked[name] for name in ("text", "time", "bbox"))
    )
    if order:
        asked["order"] = [part for each in order for part in each.split(",")]
    if limit < 0:
        raise Usage("--limit is 0 (all) or more.")
    where = _values.terms_of(terms, not_)
    if (afar := session.records) is not None:
        found = _afar.page_of(afar, terms or (), not_ or (), asked, limit=1 if first or count else limit, cursor=cursor)
        _print_afar(session, found, count=count, first=first, ids=ids, paths=paths, fields=fields, format=format)
        if not found["items"] and filtered:
            raise _no_match()
        return
    catalog = session.catalog(read_only=True)
    if count and not session.options.json:
        number = catalog.count(*where, **{name: value for name, value in asked.items() if name != "order"})
        session.write(str(number))
        if number == 0 and filtered:
            raise _no_match()
        return
    page = _page(catalog, where, asked, limit=1 if first else limit, cursor=cursor, count=count)
    session.result(page_mapping(page), lambda: _listed(session, page.items, ids=ids, paths=paths, fields=fields, format=format))
    if page.next is not None and not first and not session.options.json:
        session.note(f"more: --cursor {page.next}")
    if not page.items and filtered:
        raise _no_match()


def _print_afar(session: Session, found: dict[str, Any], *, count: bool, first: bool, paths: bool, **how: Any) -> None:
    """Print a page of records of a service."""
    if paths:
        raise Usage("--paths is for the folder of an instance: a service does not say where its files are.")
    if count and not session.options.json:
        session.write(f"{'at least ' if found.get('counts') == 'at least' else ''}{found['number_matched']}")
        return
    # Its artifacts are described as a service describes them, so the names of files come from the documents.
    names = {
        each["id"]: _name(each["title"], (part["original_name"] for part in each["artifacts"]), each["key"])
        for each in found["items"]
    }
    records = [_afar.record_of(each) for each in found["items"]]
    documents = {each["id"]: each for each in found["items"]}
    how |= {"called": lambda record: names[record.id], "document": lambda record: documents[record.id]}
    session.result(found, lambda: _listed(session, records, paths=False, **how))
    if found["next"] is not None and not first and not session.options.json:
        session.note(f"more: --cursor {found['next']}")


def _page(catalog: Any, where: list[Any], request: dict[str, Any], *, limit: int, cursor: str | None, count: bool) -> Any:
    from cubeport.catalog.query import Page

    if limit:
        return catalog.search(*where, **request, limit=limit, cursor=cursor, count=count)
    items = tuple(catalog.iterate(*where, **request, cursor=cursor))
    return Page(items, None, len(items) if count and cursor is None else None)


def page_mapping(page: Any) -> dict[str, Any]:
    """Return a page as ``--json`` prints it."""
    return {
        "items": [record.to_mapping() for record in page.items],
        "next": page.next,
        "number_returned": len(page.items),
        "number_matched": page.matched,
    }


def _no_match() -> NoMatch:
    return NoMatch("No record matches.", next_step="cubeport fields")


def _called(record: CatalogRecord) -> str:
    return _name(record.title, (each.original_name for each in record.artifacts), record.key)


def _name(title: str | None, files: Iterable[str | None], key: str | None) -> str:
    """Return the title; without one, the name of the first file, or the key, because files by the hundred often have no title."""
    return title or next(filter(None, files), None) or key or ""


def _listed(
    session: Session,
    records: Iterable[CatalogRecord],
    *,
    ids: bool,
    paths: bool,
    fields: str | None,
    format: str,
    called: Callable[[CatalogRecord], str] = _called,
    document: Callable[[CatalogRecord], Any] = lambda record: record,
) -> str:
    if ids:
        return "\n".join(record.id for record in records)
    if paths:
        return "\n".join(_local_paths(session, records))
    header = ["id", "kind", "title", "tags", "created_at"] if fields is None else [name for name in fields.split(",") if name]
    rows = ([_values.column(document(record), name) for name in header] for record in records)
    match format:
        case "table" if fields is None:
            short = ([r.id[:8], r.kind, called(r), f"{r.created_at:%Y-%m-%d %H:%M}", list(r.tags)] for r in records)
            return _output.table(short, ["id", "kind", "title", "created", "tags"])
        case "table":
            return _output.table(rows, header)
        case "csv":
            return _output.csv_text(rows, header)
        case "compact":
            return "\n".join(f"{record.id[:8]} {_output.printable(called(record))}".rstrip() for record in records)
    formatters = session.plugins.called("formatter") if session.options.plugins else {}
    if format not in formatters:
        known = ", ".join(["table", "compact", "csv", *formatters])
        raise Usage(f"--format {format!r} is not known; there are {known}.")
    return str(formatters[format](list(records)))


def _local_paths(session: Session, records: Iterable[CatalogRecord]) -> Iterable[str]:
    for record in records:
        try:
            yield str(session.catalog(read_only=True).path(record.id))
        except ArtifactMissing as exc:
            session.note(f"{record.id[:8]}: {exc.message}")


def show(
    ctx: typer.Context,
    id: Id,
    history: Annotated[bool, typer.Option("--history", help="Show its operations too, newest first.")] = False,
) -> None:
    """Show a record in full. ID@VERSION shows it as it was then."""
    session = current(ctx)
    if (afar := session.records) is not None:
        if history:
            raise Usage("--history is for the folder of an instance.", next_step=f"cubeport history {id}")
        found = _afar.get(afar, id)
        # Its links are for programs.
        session.result(found, lambda: _output.tree({name: each for name, each in found.items() if name != "links"}))
        return
    catalog = session.catalog(read_only=True)
    record = _version_of(catalog, id)
    if not history:
        session.result(record, lambda: _output.tree(record.to_mapping()))
        return
    operations = catalog.operations_on(record.id)
    document = {"record": record.to_mapping(), "history": [each.to_mapping() for each in operations]}
    session.result(document, lambda: f"{_output.tree(record.to_mapping())}\n\n{operations_table(operations)}")


def _version_of(catalog: Any, name: str) -> Any:
    """Return the record of a name, or its earlier state for ``NAME@VERSION``. A key can also contain an ``@``."""
    plain, at, version = name.rpartition("@")
    try:
        return catalog.get(name)
    except RecordNotFound:
        if not (at and version.isdigit()):
            raise
    return catalog.at(plain, int(version))


def history(ctx: typer.Context, id: Id) -> None:
    """Show the versions of a record: when, who, and what changed."""
    session = current(ctx)
    afar = session.records
    found = session.catalog(read_only=True).history(id) if afar is None else _afar.history_of(afar, id)
    rows = (
        [each.version, each.at[:19].replace("T", " "), each.by, each.operation_id and each.operation_id[:8], _changes(each)]
        for each in found
    )
    session.result(found, lambda: _output.table(rows, ["version", "at", "by", "operation", "changed"]))


def _changes(edit: Any) -> str:
    return "; ".join(f"{each.field}: {_change(each)}" for each in edit.changes)


def _change(each: Any) -> str:
    if each.field not in _PARTS:
        return _difference("", each.before, each.after)
    before, after = ({_PARTS[each.field](part): part for part in side or ()} for side in (each.before, each.after))
    signs = [*(f"-{name}" for name in before.keys() - after), *(f"+{name}" for name in after.keys() - before)]
    signs += [f"~{name}" for name in before.keys() & after if before[name] != after[name]]
    return _output.printable(" ".join(sorted(signs, key=lambda sign: sign[1:])))


def _difference(name: str, before: Any, after: Any) -> str:
    """Return what differs between two values; of two objects only the members that do, each with its name."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
        return ", ".join(_difference(f"{name}.{key}" if name else str(key), before.get(key), after.get(key)) for key in names)
    return f"{name} {_output.cell(before) or '-'} → {_output.cell(after) or '-'}".lstrip()


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "artifacts": lambda part: f"{part['role']} {part['original_name'] or part['artifact_id']} ({part['artifact_id']})",
    "lineage": lambda part: f"{part['rel']} {part['target']}",
}
"""How the parts of a list are named in a history, because their documents would fill the screen."""


def operations_table(operations: Iterable[Any]) -> str:
    """Return operations as a table."""
    rows = (
        [
            each.operation_id[:8],
            each.operation_type,
            each.status,
            f"{each.started_at:%Y-%m-%d %H:%M:%S}",
            each.created_by,
            error_of(each),
        ]
        for each in operations
    )
    return _output.table(rows, ["id", "operation", "status", "started", "by", "error"])


def error_of(operation: Any) -> str | None:
    """Return kind and message of the problem that ended an operation."""
    return None if operation.error is None else f"{operation.error.get('kind')}: {operation.error.get('message')}"


def path(
    ctx: typer.Context,
    id: Id,
    artifact: ArtifactName = None,
) -> None:
    """Print where an artifact is in the local file system."""
    session = current(ctx)
    found = session.catalog(read_only=True).path(id, artifact)
    session.result(str(found), str(found))


def cat(ctx: typer.Context, id: Id, artifact: ArtifactName = None) -> None:
    """Write the bytes of an artifact to standard output, wherever they are stored."""
    session = current(ctx)
    if (afar := session.records) is not None:
        session.copy(io.BytesIO(afar.read(id, artifact)))
        return
    with session.catalog(read_only=True).open_artifact(id, artifact) as reading:
        session.copy(reading)


def get(
    ctx: typer.Context,
    id: Id,
    artifact: ArtifactName = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Default: here.")] = Path(),
) -> None:
    """Copy the bytes of an artifact here under their original name, wherever they are stored."""
    session = current(ctx)
    if (afar := session.records) is not None:
        found = _afar.copy_out(afar, id, output, artifact)
    else:
        found = session.catalog(read_only=True).copy_out(id, output, artifact)
    session.result(str(found), str(found))


def detach(
    ctx: typer.Context,
    id: Id,
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="Its id, role or original name.")],
    yes: Yes = False,
) -> None:
    """Remove an artifact from its record, and its bytes if cubeport stores them. Bytes behind references are not touched."""
    session = current(ctx)
    catalog = session.catalog()
    record = catalog.get(id)
    session.confirm(f"Detach {artifact} of {_named([record])}?", yes=yes)
    changed = catalog.detach(record.id, artifact)
    session.result(changed, f"{changed.id} is at version {changed.version}")


def replace(
    ctx: typer.Context,
    id: Id,
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder.")],
    artifact: ArtifactName = None,
) -> None:
    """Replace an artifact by a file in one commit, then remove the former bytes."""
    session = current(ctx)
    added = session.catalog().replace_artifact(id, source, artifact)
    session.warn(added.warnings)
    session.result(added, lambda: f"{added.record.id} is at version {added.record.version}{_where(added)}")


def edit(
    ctx: typer.Context,
    id: Id,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A record field, or metadata.")] = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", metavar="FIELD")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace all metadata by the given ones.")] = False,
    meta: Metas = None,
    meta_text: MetaText = None,
    meta_json: MetaJson = None,
    meta_file: MetaFile = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Add it. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="Remove it. Repeatable.")] = None,
    status: Annotated[str | None, typer.Option("--status")] = None,
    visibility: Visibility = None,
    time: Annotated[str | None, typer.Option("--time", metavar="A/B", help="2020-03, A/B, ../B.")] = None,
    bbox: Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N")] = None,
    link: Annotated[list[str] | None, typer.Option("--link", metavar="REL=ID", help="A lineage edge. Repeatable.")] = None,
    unlink: Annotated[list[str] | None, typer.Option("--unlink", metavar="REL=ID", help="Remove it. Repeatable.")] = None,
    if_version: Annotated[int | None, typer.Option("--if-version", help="Fail if the record has another version.")] = None,
) -> None:
    """Change a record."""
    from cubeport.catalog.terms import parse_assignment, resolve, split_field

    session = current(ctx)
    catalog = session.catalog()
    record: dict[str, Any] = {"title": title} if title is not None else {}
    if status is not None:
        record["status"] = status
    if visibility is not None:
        record["visibility"] = visibility
    if time is not None:
        record["time"] = _values.time_of(time)
    if bbox is not None:
        record["bbox"] = _values.bbox_of(bbox)
    metadata: dict[Any, Any] = {(key,): value for key, value in (_values.mapping_from(meta_file) if meta_file else {}).items()}
    metadata.update(_values.assigned(meta or (), texts=meta_text or (), documents=meta_json or ()))
    for text in set_ or ():
        steps, value = parse_assignment(text)
        steps = resolve(steps)
        if steps[0] == "metadata" and len(steps) > 1:
            metadata[steps[1:]] = value
        elif len(steps) == 1 and steps[0] not in ("metadata", "artifact"):
            record[steps[0]] = value
        else:
            raise Usage(f"--set {text!r}: only whole record fields and fields of metadata can be set.")
    gone: list[str] = []
    for text in unset or ():
        steps = resolve(split_field(text))
        if steps[0] == "metadata" and len(steps) > 1:
            gone.append(".".join(steps[1:]))
        elif len(steps) == 1:
            record[steps[0]] = None
        else:
            raise Usage(f"--unset {text!r}: only whole record fields and fields of metadata can be unset.")
    if not (record or metadata or gone or replace or tag or untag or link or unlink):
        raise Usage("There is nothing to change.", next_step="cubeport edit --help")
    changed = catalog.update(
        id,
        set=metadata,
        unset=gone,
        metadata={} if replace else None,
        tags_add=tag or (),
        tags_remove=untag or (),
        link=_values.links_of(link or ()),
        unlink=_values.links_of(unlink or ()),
        if_version=if_version,
        **record,
    )
    session.warn(catalog.schemas.check(changed).lines())
    session.result(changed, lambda: f"{changed.id} is at version {changed.version}")


def delete(ctx: typer.Context, ids: Ids, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Delete records. Their bytes are kept, and `restore` brings them back."""
    session = current(ctx)
    catalog = session.catalog()
    found = [catalog.get(name) for name in ids]
    if not dry_run:
        session.confirm(f"Delete {_named(found)}?", yes=yes)
        found = [catalog.delete(record.id) for record in found]
    session.result(found, "\n".join(f"{'would delete' if dry_run else 'deleted'} {record.id}" for record in found))


def restore(ctx: typer.Context, ids: Ids, dry_run: DryRun = False) -> None:
    """Restore deleted records."""
    session = current(ctx)
    catalog = session.catalog()
    found = [catalog.even_deleted(name) for name in ids]
    if not dry_run:
        found = [catalog.restore(record.id) for record in found]
    session.result(found, "\n".join(f"{'would restore' if dry_run else 'restored'} {record.id}" for record in found))


def purge(
    ctx: typer.Context,
    ids: Ids,
    yes: Yes = False,
    force: Annotated[bool, typer.Option("--force", help="Even if other records point to them.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove records for good, and their bytes if cubeport stores them. Bytes behind references are never touched."""
    session = current(ctx)
    catalog = session.catalog()
    found = [catalog.even_deleted(name) for name in ids]
    if not dry_run:
        session.confirm(f"Remove {_named(found)} for good?", yes=yes)
    found = [catalog.purge(record.id, force=force, dry_run=dry_run) for record in found]
    session.result(found, "\n".join(f"{'would purge' if dry_run else 'purged'} {record.id}" for record in found))


def _named(records: list[CatalogRecord]) -> str:
    if len(records) == 1:
        return f"{records[0].id[:8]} {records[0].title or ''}".rstrip()
    return f"{len(records)} records"


_COMMANDS: dict[str, Callable[..., None]] = {
    "add": add,
    "search": search,
    "show": show,
    "history": history,
    "path": path,
    "cat": cat,
    "get": get,
    "detach": detach,
    "replace": replace,
    "edit": edit,
    "delete": delete,
    "restore": restore,
    "purge": purge,
}
