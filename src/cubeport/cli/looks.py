"""Commands that look at and check what is there: info, fields, lineage, validate, schema, extraction, bytes, views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cubeport.catalog.forms.folders import folder_of
from cubeport.cli import _output, _values
from cubeport.cli._completion import record_ids
from cubeport.cli._session import current
from cubeport.cli.records import DryRun, Id, Not, Terms
from cubeport.errors import NoMatch, Usage

SomeIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Ids, keys, or the first characters of an id.", autocompletion=record_ids),
]
All = Annotated[bool, typer.Option("--all", help="Every record.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in _COMMANDS.items():
        app.command(name)(command)
    schema = typer.Typer(rich_markup_mode=None, no_args_is_help=False)
    for name, command in _SCHEMA.items():
        schema.command(name)(command)
    app.add_typer(schema, name="schema", help="List, show, export and import schemas of metadata.")


def info(ctx: typer.Context) -> None:
    """Show what kind of catalog this is, and what it contains."""
    session = current(ctx)
    found = session.catalog(read_only=True).info()
    session.result(found, lambda: _output.tree(found))


def fields(
    ctx: typer.Context,
    field: Annotated[str | None, typer.Argument(metavar="FIELD", help="Only this one.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Count its distinct values.")] = False,
) -> None:
    """Show the fields of metadata, with their types and examples."""
    from cubeport.catalog.terms import canonical_field, shown_field

    session = current(ctx)
    catalog = session.catalog(read_only=True)
    if values:
        if field is None:
            raise Usage("--values needs a field.", next_step="cubeport fields FIELD --values")
        counted = catalog.values(field)
        session.result(counted, lambda: _output.table(([each["value"], each["records"]] for each in counted), ["value", "records"]))
        if not counted:
            raise NoMatch(f"No record has {field}.", next_step="cubeport fields")
        return
    found = catalog.fields()
    if field is not None:
        wanted = canonical_field(field)
        found = [each for each in found if canonical_field(each.field) == wanted]
    rows = (
        [shown_field(each.field), ", ".join(f"{kind} {n}" for kind, n in each.types.items()), each.records, list(each.examples)]
        for each in found
    )
    session.result(found, lambda: _output.table(rows, ["field", "types", "records", "examples"]))
    if field is not None and not found:
        raise NoMatch(f"No record has {field}.", next_step="cubeport fields")


def lineage(
    ctx: typer.Context,
    id: Id,
    up: Annotated[bool, typer.Option("--up", help="What it comes from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="What comes from it.")] = False,
    depth: Annotated[int | None, typer.Option("--depth", help="Default: all levels.")] = None,
    rel: Annotated[str | None, typer.Option("--rel", help="Only this relation.")] = None,
    format: Annotated[str, typer.Option("--format", help="tree or dot.")] = "tree",
) -> None:
    """Show what a record comes from, and what comes from it."""
    if format not in ("tree", "dot"):
        raise Usage(f"--format {format!r} is not known; there are tree, dot.")
    session = current(ctx)
    direction: Literal["up", "down", "both"] = "both" if up == down else "up" if up else "down"
    graph = session.catalog(read_only=True).lineage(id, direction=direction, depth=depth, rel=rel)
    session.result(graph, lambda: _dot(graph) if format == "dot" else _tree(graph))


def _label(graph: Any, node: str) -> str:
    record = graph.records.get(node)
    if record is None:
        return f"{node} (gone)" if node in graph.records else node
    return f"{node[:8]} {record.kind} {record.title or ''}".rstrip()


def _tree(graph: Any) -> str:
    lines = [_label(graph, graph.root)]

    def walk(node: str, indent: str, seen: frozenset[str], *, up: bool) -> None:
        for edge in graph.edges:
            here, there = (edge.source, edge.target) if up else (edge.target, edge.source)
            if here != node:
                continue
            again = there in seen
            arrow = f"{edge.rel} →" if up else f"← {edge.rel}"
            lines.append(_output.printable(f"{indent}{arrow} {_label(graph, there)}{' …' if again else ''}"))
            if not again:
                walk(there, indent + "  ", seen | {there}, up=up)

    walk(graph.root, "  ", frozenset({graph.root}), up=True)
    walk(graph.root, "  ", frozenset({graph.root}), up=False)
    return "\n".join(lines)


def _dot(graph: Any) -> str:
    from cubeport.catalog.forms.canonical import dumps

    def quoted(text: str) -> str:
        return dumps(_output.printable(text))

    nodes = dict.fromkeys([graph.root, *(end for edge in graph.edges for end in (edge.source, edge.target))])
    lines = [f"  {quoted(node)} [label={quoted(_label(graph, node))}];" for node in nodes]
    lines += [f"  {quoted(e.source)} -> {quoted(e.target)} [label={quoted(e.rel)}];" for e in graph.edges]
    return "digraph lineage {\n" + "\n".join(lines) + "\n}"


# --- schemas --------------------------------------------------------------------------------------------------------


def validate(
    ctx: typer.Context,
    ids: SomeIds = None,
    all: All = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="A record as `show --json` prints it, or metadata with --schema.")
    ] = None,
    schema: Annotated[str | None, typer.Option("--schema", metavar="NAME[@VERSION]")] = None,
) -> int:
    """Check records against their schemas. Exits with 1 if one is not valid."""
    session = current(ctx)
    if sum((bool(ids), all, file is not None)) != 1 or (schema is not None and file is None):
        raise Usage("Give ids, or --all, or --file.")
    catalog = session.catalog(read_only=True)
    results = {str(file): _of_file(catalog, file, schema)} if file is not None else catalog.validate(*(ids or ()), all=all)
    session.result(results, lambda: "\n".join(_verdict(name, result) for name, result in results.items()))
    return 0 if all_valid(results) else 1


def _of_file(catalog: Any, file: Path, schema: str | None) -> Any:
    """Return the result of a record in a file, as ``show --json`` prints it, or of metadata by the schema that is named."""
    from cubeport.catalog.models import CatalogRecord

    held = _values.mapping_from(file)
    if {"id", "kind", "metadata"} <= held.keys():
        record = CatalogRecord.from_mapping(held)
        return catalog.validate(record.replace(**_values.schema_of(catalog, schema)) if schema else record)
    if schema is None:
        raise Usage(
            f"{file} contains metadata; name the schema with --schema.", next_step=f"cubeport validate --file {file} --schema S"
        )
    return catalog.validate_metadata(held, **_values.schema_of(catalog, schema))


def all_valid(results: dict[str, Any]) -> bool:
    """Return whether every result is valid."""
    return all(result.valid for result in results.values())


def _verdict(name: str, result: Any) -> str:
    schema = f"{result.schema_name} {result.schema_version}" if result.schema_name else "no schema"
    lines = [f"{name} {'valid' if result.valid else 'NOT VALID'} ({schema})"]
    issues = (*result.errors, *result.warnings)
    lines += [_output.printable(f"  {each.path}: {each.message}" + (f" ({each.hint})" if each.hint else "")) for each in issues]
    return "\n".join(lines)


def schema_list(ctx: typer.Context) -> None:
    """List the schemas and their versions."""
    session = current(ctx)
    schemas = session.catalog(read_only=True).schemas
    found = {name: schemas.versions(name) for name in schemas.names()}
    session.result(found, lambda: _output.table(found.items(), ["schema", "versions"]))


def schema_show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]")],
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Default: the newest.")] = None,
) -> None:
    """Show a schema."""
    session = current(ctx)
    schema = session.catalog(read_only=True).schemas.get(*_values.name_and_version(name, version))
    document = {"name": schema.name, "version": schema.version, "schema": dict(schema.document)}
    session.result(document, lambda: f"{schema.name} {schema.version}\n{_json(schema.document)}")


def schema_export(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME[@VERSION]")] = None,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Default: the newest.")] = None,
    models: Annotated[bool, typer.Option("--models", help="The catalog's own documents.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE")] = None,
) -> None:
    """Print or save a JSON Schema."""
    from cubeport.catalog.schemas import models_schema

    session = current(ctx)
    if models == (name is not None):
        raise Usage("Give a schema's name, or --models.")
    document = (
        models_schema()
        if name is None
        else dict(session.catalog(read_only=True).schemas.get(*_values.name_and_version(name, version)).document)
    )
    if output is None:
        session.result(document, lambda: _json(document))
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(_json(document) + "\n")
    except OSError as exc:
        raise Usage(f"{output} cannot be written: {exc.strerror}.") from None
    session.note(f"wrote {output}")


def schema_import(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON Schema (2020-12), as JSON or YAML.")],
    version: Annotated[str, typer.Option("--version")] = "1",
) -> None:
    """Register a JSON Schema."""
    session = current(ctx)
    schema = session.catalog().register_schema(name, _values.mapping_from(file), version)
    document = {"name": schema.name, "version": schema.version, "schema": dict(schema.document)}
    session.result(document, f"registered {schema.name} {schema.version}")


def _json(document: Any) -> str:
    from cubeport.catalog.forms.canonical import dumps

    return dumps(_output.plain(document), indent=True)


# --- bytes ----------------------------------------------------------------------------------------------------------


def extract_metadata(
    ctx: typer.Context,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID|PATH", help="Records to read again, or paths to inspect.", autocompletion=record_ids)
    ],
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this extractor. Repeatable.")] = None,
    require_metadata: Annotated[bool, typer.Option("--require-metadata", help="Fail if an extractor fails.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Read the metadata of a record's bytes again. For a path, print the metadata and store nothing."""
    session = current(ctx)
    if all(_values.is_path(each) for each in ids):
        looked = [session.catalog(read_only=True).read_metadata(each, only=only or (), require=require_metadata) for each in ids]
        for each in looked:
            session.warn(each.warnings)
        session.result(
            looked[0] if len(looked) == 1 else looked, lambda: "\n".join(_output.tree(each.to_mapping()) for each in looked)
        )
        return
    catalog = session.catalog()
    found = []
    for name in ids:
        record, warnings = catalog.extract(name, only=only or (), require=require_metadata, dry_run=dry_run)
        session.warn(warnings)
        found.append(record)
    session.result(found, lambda: "\n".join(f"{record.id} {', '.join(_blocks(record)) or 'nothing'}" for record in found))


def _blocks(record: Any) -> list[str]:
    return [key for key, value in record.metadata.items() if isinstance(value, dict) and "_extractor" in value]


def verify(
    ctx: typer.Context,
    ids: SomeIds = None,
    all: All = False,
    fast: Annotated[bool, typer.Option("--fast", help="Compare only sizes, not hashes.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Store the time of the check, and what is missing.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="URL", help="Compare with the datasets of the same ids at this service.")
    ] = None,
) -> int:
    """Compare bytes with their size and hash in the catalog, or mirrors with their source. Exits with 1 if some differ."""
    if against is not None:
        from cubeport.cli.mirrors import verify as verify_mirrors

        if all or fast or record or not ids:
            raise Usage("--against takes the ids of datasets, and no other option.")
        return verify_mirrors(ctx, ids, against)
    if bool(ids) == all:
        raise Usage("Give ids, or --all.")
    session = current(ctx)
    found = session.catalog(read_only=not record).verify(*(ids or ()), all=all, fast=fast, record=record)
    rows = ([each.record_id[:8], each.artifact_id, each.verdict, each.place, each.detail] for each in found)
    session.result(found, lambda: _output.table(rows, ["record", "artifact", "verdict", "place", "detail"]))
    if not found:
        session.note(
            "Nothing was compared: there are no files of their own. cubeport fsck --data compares the versions of datasets."
        )
    return 0 if not any(each.verdict in ("missing", "size-differs", "hash-differs", "unreachable") for each in found) else 1


Artifact = Annotated[
    str | None, typer.Option("--artifact", help="Its id, or the first characters. Default: the only one that fits.")
]


def fetch(
    ctx: typer.Context,
    id: Id,
    artifact: Artifact = None,
    profile: Annotated[str | None, typer.Option("--profile", help="The storage profile for the bytes.")] = None,
) -> None:
    """Download the bytes of an external artifact. They must match its hash, if it is known."""
    session = current(ctx)
    found = session.catalog().fetch(id, artifact, profile=profile)
    session.result(found, f"fetched {found.id}")


def drop(
    ctx: typer.Context,
    id: Id,
    artifact: Artifact = None,
    force: Annotated[bool, typer.Option("--force", help="Even if the origin does not answer.")] = False,
) -> None:
    """Remove downloaded bytes that their origin still has."""
    session = current(ctx)
    found = session.catalog().drop(id, artifact, force=force)
    session.result(found, f"dropped {found.id}")


def view(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    terms: Terms = None,
    template: Annotated[str, typer.Option("--template", help="The path of each link below DIR.")] = "",
    not_: Not = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the links.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="With --apply: remove our links that no longer belong to a record.")
    ] = False,
) -> None:
    """Plan a folder of links to artifacts. With --apply, make it."""
    if not template:
        raise Usage("--template is needed, for example '{kind}/{title_slug|original_stem}{original_suffix}'.")
    if prune and not apply:
        raise Usage("--prune needs --apply; without it, the plan lists the stale links.")
    session = current(ctx)
    plan = session.catalog(read_only=True).view(
        folder_of(folder), template, *_values.terms_of(terms, not_), apply=apply, prune=prune
    )
    rows = ([link.state, link.path, link.record_id and link.record_id[:8], link.reason] for link in plan.links)
    session.result(plan, lambda: _output.table(rows, ["state", "path", "record", "why"]))


_COMMANDS: dict[str, Callable[..., Any]] = {
    "info": info,
    "fields": fields,
    "lineage": lineage,
    "validate": validate,
    "extract-metadata": extract_metadata,
    "verify": verify,
    "fetch": fetch,
    "drop": drop,
    "view": view,
}
_SCHEMA: dict[str, Callable[..., Any]] = {
    "list": schema_list,
    "show": schema_show,
    "export": schema_export,
    "import": schema_import,
}
