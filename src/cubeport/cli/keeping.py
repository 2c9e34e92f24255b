"""Commands that make, check, mend and move a catalog, and that tell what happened in it."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.catalog.forms.folders import folder_of
from cubeport.cli import _output, _values
from cubeport.cli._completion import record_ids
from cubeport.cli._session import Session, current
from cubeport.cli.records import DryRun, Not, Terms, operations_table
from cubeport.errors import Corrupt, CubeportError, NoSpace, Unavailable, Usage

if TYPE_CHECKING:
    from cubeport.catalog.backend import Finding


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in _COMMANDS.items():
        app.command(name)(command)
    export = typer.Typer(rich_markup_mode=None)
    export.callback()(_export)
    export.command("records")(export_records)
    export.command("ro-crate")(export_crate)
    export.command("openlineage")(export_openlineage)
    export.command("intake")(export_intake)
    export.command("urls")(export_urls)
    app.add_typer(export, name="export", help="Write datasets and records in the formats of other tools.")


def init(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Default: --instance, or the current folder.")] = None,
    catalog: Annotated[str, typer.Option("--catalog", help="sqlite, tinydb or postgresql://HOST/DATABASE.")] = "sqlite",
    shared: Annotated[str | None, typer.Option("--shared", help="group: every member of the folder's group may write.")] = None,
    allow_network_filesystem: Annotated[
        bool, typer.Option("--allow-network-filesystem", help="Allow NFS and similar file systems, where locks are not reliable.")
    ] = False,
    core: Annotated[bool, typer.Option("--core", help="Make only a catalog, without the configuration of the service.")] = False,
    allow_root: Annotated[
        list[Path] | None, typer.Option("--allow-root", help="A folder with files that requests may ingest.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", help="A server to fetch from, as scheme://host[:port].")
    ] = None,
) -> None:
    """Make a new instance. Existing files in config/ and extents/ are kept."""
    session = current(ctx)
    root = folder_of(folder or session.options.instance or Path()).absolute()
    if (allow_root or allow_origin) and (root / "config" / "service.yaml").exists():
        raise Usage("config/service.yaml already exists and is not changed.", next_step="write sources.roots and origins in it")
    made = session.create(root, catalog=catalog, shared=shared, allow_network_filesystem=allow_network_filesystem)
    result: dict[str, Any] = {"root": str(made.root), "catalog_id": made.catalog_id, "catalog": catalog}
    if core and (allow_root or allow_origin):
        raise Usage("--allow-root and --allow-origin belong to the service, which --core leaves out.")
    if session.wiring.init_service is not None and not core:
        result |= session.wiring.init_service(
            session, made.root, catalog=catalog, allow_roots=allow_root or [], allow_origins=allow_origin or []
        )
    elif allow_root or allow_origin:
        raise Usage("--allow-root and --allow-origin belong to the service, which is not part of this command line.")
    stores = [] if session.wiring.stores is None else list(session.wiring.stores(made.root, trial=False))
    if stores:
        result["stores"] = stores
    lines = [
        f"made {result['root']}",
        *(f"{each.place}: {'; '.join(filter(None, (each.message, each.next_step)))}" for each in _placed(session, stores)),
    ]
    session.result(result, "\n".join(lines))
    if not core and session.wiring.init_service is not None:
        away = "" if root == Path.cwd() else f" --instance {shlex.quote(_shortest(root))}"
        session.note(f"next: cubeport ingest{away} FILES... --id NAME, then cubeport serve{away}")


def _shortest(folder: Path) -> str:
    """Return a folder as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def plugins(ctx: typer.Context) -> None:
    """List the plugins: what each provides, or why it is not used."""
    session = current(ctx)
    found = [plugin.to_mapping() for plugin in session.plugins]
    rows = ([each["name"], each["version"], _state(each), _gives(each["gives"])] for each in found)
    session.result(found, lambda: _output.table(rows, ["plugin", "version", "state", "gives"]))


def _state(plugin: dict[str, Any]) -> str:
    return "off" if plugin["disabled"] else "broken" if plugin["error"] else "ok"


def _gives(gives: dict[str, list[str]]) -> str:
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in gives.items())


def profiles(ctx: typer.Context) -> None:
    """List the storage profiles, and what is wrong with them."""
    session = current(ctx)
    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "writable": each.writable,
            "hash": each.hash,
            "collision": each.collision,
            "directory": each.directory,
            "filename": each.filename,
            "free_bytes": None if each.problems() else each.free_bytes(),
            "problems": [_with_step(problem) for problem in each.problems()],
        }
        for each in session.catalog(read_only=True).profiles
    ]
    rows = ([each["name"], each["writable"], each["hash"], each["free_bytes"], " ".join(each["problems"])] for each in found)
    session.result(found, lambda: _output.table(rows, ["profile", "writable", "hash", "free bytes", "problems"]))


def _with_step(problem: CubeportError) -> str:
    return f"{problem.message.rstrip('.')}: {problem.next_step}." if problem.next_step else problem.message


def logs(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="Only events of this user.")] = None,
    record: Annotated[str | None, typer.Option("--record", help="An id, or its first characters.")] = None,
    artifact: Annotated[str | None, typer.Option("--artifact")] = None,
    operation: Annotated[str | None, typer.Option("--operation", help="An id, or its first characters.")] = None,
    level: Annotated[str | None, typer.Option("--level", help="This level and above: debug, info, warning, error.")] = None,
    event: Annotated[
        str | None, typer.Option("--event", help="For example operation.failed, or operation for all events of operations.")
    ] = None,
    plugin: Annotated[str | None, typer.Option("--plugin")] = None,
    hook: Annotated[str | None, typer.Option("--hook")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A date, a timestamp, 7d, 2h.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="A date, a timestamp, 7d, 2h.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="0: all.")] = 100,
) -> None:
    """Show the event log, newest last."""
    session = current(ctx)
    page = session.catalog(read_only=True).logs(
        user=user,
        record=record,
        artifact=artifact,
        operation=operation,
        level=level,
        event=event,
        plugin=plugin,
        hook=hook,
        since=since,
        until=until,
        limit=limit or None,
    )
    if page.skipped:
        session.note(f"{page.skipped} lines could not be read")
    session.result(page, lambda: "\n".join(_event(each) for each in page.items))


def _event(event: dict[str, Any]) -> str:
    about = " ".join(f"{name}={str(event[key])[:8]}" for name, key in _ABOUT if event.get(key))
    failure = f" {event['exception_type']}: {event['exception_message']}" if event.get("exception_type") else ""
    line = f"{event.get('timestamp')} {event.get('level')} {event.get('event')} {event.get('message')}{failure} {about}"
    return _output.printable(line).rstrip()


_ABOUT = (("operation", "operation_id"), ("record", "record_id"), ("user", "user_id"), ("hook", "hook"), ("plugin", "plugin"))


def operations(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Show this operation, with the lines of its journal.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="planned, running, succeeded, failed, rolled_back.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A date, a timestamp, 7d, 2h.")] = None,
    limit: Annotated[int, typer.Option("--limit")] = 50,
) -> None:
    """List operations, newest first. With an id, show one in full."""
    from cubeport.catalog.events import instant_of

    session = current(ctx)
    catalog = session.catalog(read_only=True)
    if id is not None:
        found = catalog.operation(id)
        session.result(found, lambda: _output.tree(found))
        return
    if status not in (None, "planned", "running", "succeeded", "failed", "rolled_back"):
        raise Usage(f"--status {status!r} is not known.", next_step="cubeport operations --help")
    listed = catalog.operations(status=status, since=instant_of(since, ends=False), limit=limit)  # type: ignore[arg-type]  # checked above
    session.result(listed, lambda: operations_table(listed))


def doctor(
    ctx: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also list checks without problems, and the version of each library.")
    ] = False,
    try_stores: Annotated[
        bool,
        typer.Option("--try-stores", help="Test the S3 stores of versions: write one object to each, and remove it."),
    ] = False,
) -> int:
    """Look for problems, without changing anything."""
    session = current(ctx)
    found = _health(session)
    if try_stores and session.wiring.stores is not None:
        found += session.wiring.stores(session.root, trial=True)
    session.result(found, lambda: _diagnosis(_placed(session, found), every=every))
    bad = ("error", "warn") if strict else ("error",)
    return 1 if any(each.level in bad for each in found) else 0


def _placed(session: Session, found: Iterable[Finding]) -> list[Finding]:
    """Return findings whose next steps work where the caller stands."""
    return [replace(each, next_step=session.advice(each.next_step) or None) for each in found]


def _diagnosis(found: list[Finding], *, every: bool) -> str:
    shown = [each for each in found if every or each.level != "ok"]
    columns = _output.columns()
    if columns is not None:  # sentences are wrapped, not cut
        table = "\n".join(_paragraph(each, columns) for each in shown)
    else:
        rows = ([each.level, each.kind, each.place, each.message, each.next_step] for each in shown)
        table = _output.table(rows, ["", "what", "where", "message", "next"]) if shown else ""
    if every:
        return table
    well = Counter(each.kind for each in found if each.level == "ok")
    line = ", ".join(kind if number == 1 else f"{number} × {kind}" for kind, number in well.items())
    return "\n".join(filter(None, (table, line and f"no problems: {line} (--all lists them)")))


def _paragraph(found: Finding, columns: int) -> str:
    """Return a finding in lines of a terminal."""
    level, kind, place, message, step = map(_output.cell, (found.level, found.kind, found.place, found.message, found.next_step))
    texts = [message, *([f"next: {step}"] if step else [])]
    indent = " " * 6
    wrapped = (
        textwrap.fill(each, columns, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) for each in texts
    )
    return "\n".join((f"{level:5} {kind}  {place}", *wrapped))


def _health(session: Session) -> list[Finding]:
    from cubeport.catalog.backend import Finding

    try:
        found = session.catalog(read_only=True).doctor()
    except (Corrupt, Unavailable) as exc:
        # A catalog that cannot be opened is what a doctor is called for.
        found = [Finding(exc.kind, "catalog", exc.message, exc.next_step, "error")]
    if session.wiring.service is not None:
        for line in session.wiring.service().check(session.root):
            place, _, words = line.partition(": ")
            # A template or extent that is wrong is not used; wrong settings stop the start. Profiles and plugins were reported.
            if place.startswith(("config/datasets/", "extents/", "config/pipelines/")):
                found.append(Finding("configuration", place, words, "cubeport check-config", "warn"))
            elif place.startswith(("config/service.yaml", "CUBEPORT_")):
                found.append(Finding("configuration", place, words, "cubeport check-config", "error"))
    return found


def recover(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this operation.")] = None,
    dry_run: DryRun = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Close operations that cannot be undone, after you have checked them.")
    ] = False,
) -> int:
    """Finish or undo what dead processes left open. It is safe to repeat."""
    session = current(ctx)
    catalog = session.catalog(read_only=dry_run)
    # Opening it for writing has recovered already; what that left is tried again, and counts as it ends.
    both = (*catalog.recovered, *catalog.recover(id, dry_run=dry_run, skip=skip))
    found = list({each.operation_id: each for each in both if each.operation_id.startswith(id or "")}.values())
    rows = (
        [each.operation_id[:8], each.operation_type, each.last_state, each.outcome, "; ".join((*each.done, *each.left))]
        for each in found
    )
    session.result(found, lambda: _output.table(rows, ["operation", "type", "last state", "outcome", "what"]))
    if any(each.full for each in found):
        raise NoSpace("There is no space left, so operations stay open.", next_step="cubeport gc")
    if any(each.unreachable for each in found):
        raise Unavailable("A store does not answer, so operations stay open.", next_step="cubeport doctor")
    return 1 if any(each.outcome == "left" for each in found) else 0


def fsck(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this record.", autocompletion=record_ids)] = None,
    data: Annotated[bool, typer.Option("--data", help="Read every byte.")] = False,
    time_limit: Annotated[str | None, typer.Option("--time-limit", metavar="T", help="90s, 30m, 2h.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the last check stopped.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Move orphaned files to quarantine, and mark missing ones.")] = False,
) -> int:
    """Compare the catalog with its stores. Exits with 1 if there are findings, or if the time limit stopped it."""
    session = current(ctx)
    limit_s = None if time_limit is None else _values.seconds_of(time_limit)
    checked = session.catalog(read_only=not repair).fsck(id, data=data, time_limit_s=limit_s, resume=resume, repair=repair)
    document = {**_output.plain(checked), "counts": checked.counts}
    rows = ([each.kind, each.place, each.message, each.next_step] for each in _placed(session, checked.findings))
    session.result(document, lambda: _output.table(rows, ["finding", "where", "message", "next"], width=10_000))
    state = "complete" if checked.complete else "stopped by the time limit: continue with --resume"
    session.note(f"{checked.records} records, {checked.artifacts} artifacts, {len(checked.findings)} findings; {state}")
    return 1 if checked.findings or not checked.complete else 0


def gc(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="T", help="Keep everything younger than this: 24h, 7d.")
    ] = "24h",
    dry_run: DryRun = False,
) -> None:
    """Apply retention, then remove bytes that cubeport stored and nothing uses any longer."""
    from cubeport.catalog.parts import Garbage

    session = current(ctx)
    retired = session.service.retain(dry_run=dry_run) if _has_versions(session) else []
    catalog = session.catalog(read_only=dry_run)
    records = catalog.retain(dry_run=dry_run)
    found = catalog.gc(older_than_s=_values.seconds_of(older_than), dry_run=dry_run)
    versions = []
    for each in retired:
        place, kind = f"{each.dataset_id}@{each.version_id}", f"{each.act}-version"
        versions.append(Garbage("data", place, each.size_bytes, each.at, each.why, ours=True, removed=not dry_run, kind=kind))
    found = [*versions, *records, *found]
    rows = ([each.profile, each.path, each.size_bytes, each.reason] for each in found)
    session.result(found, lambda: _output.table(rows, ["profile", "path", "bytes", "why"]))
    if not found:
        more = " `cubeport usage` shows what each dataset uses." if _has_versions(session) else ""
        session.note(f"There is nothing to remove.{more}")


def _has_versions(session: Session) -> bool:
    """Return whether this is an instance of the service: a catalog alone has no versions to retain."""
    return session.wiring.connect is not None and (session.root / "config" / "service.yaml").is_file()


def convert(
    ctx: typer.Context, to: Annotated[str, typer.Option("--to", help="sqlite, tinydb or postgresql://HOST/DATABASE.")]
) -> None:
    """Move the catalog to another backend. The old store is kept."""
    session = current(ctx)
    catalog: Any = session.catalog()
    found = catalog.convert(to)
    session.result(found, lambda: _output.tree(_output.plain(found)))


def migrate(ctx: typer.Context) -> None:
    """Update the catalog's store to the format of this release."""
    session = current(ctx)
    if session.wiring.migrate is None:
        raise Usage("This command line cannot migrate.")
    found = session.wiring.migrate(session.root)
    before, after, made = found["before"], found["after"], found["made"]
    changed = [
        *([f"from format {before} to format {after}"] if before != after else []),
        *([f"with new indexes: {', '.join(made)}"] if made else []),
    ]
    words = f"migrated the catalog {', '.join(changed)}" if changed else f"the catalog has format {after}: nothing to migrate"
    session.result(found, lambda: words)


def _export() -> None:
    """Export records."""


def export_records(
    ctx: typer.Context,
    terms: Terms = None,
    not_: Not = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: stdout.")] = None,
    with_bytes: Annotated[Path | None, typer.Option("--with-bytes", metavar="DIR", help="Copy the managed bytes too.")] = None,
) -> None:
    """Write records as NDJSON, ordered by id: all records with any status, or those that match."""
    session = current(ctx)
    catalog = session.catalog(read_only=True)
    where = _values.terms_of(terms, not_)
    if output is None:
        session.stream(catalog.export_lines(*where, with_bytes=with_bytes))
        return
    written = catalog.export_records(output, *where, with_bytes=with_bytes)
    session.result({"file": str(output), "records": written}, f"wrote {written} records to {output}")


def export_crate(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    terms: Terms = None,
    not_: Not = None,
    name: Annotated[str | None, typer.Option("--name", help="The title of the crate. Default: the name of the folder.")] = None,
    license: Annotated[
        str | None, typer.Option("--license", metavar="URI", help="The license of the crate. Default: none.")
    ] = None,
) -> None:
    """Write records with their bytes and provenance as an RO-Crate (1.1, Process Run Crate)."""
    session = current(ctx)
    catalog = session.catalog(read_only=True)
    written = catalog.export_crate(folder_of(folder), *_values.terms_of(terms, not_), name=name or folder.name, license=license)
    session.result({"folder": str(folder), "records": written}, f"wrote {written} records to {folder}")


def export_openlineage(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option("--since", help="A date, a timestamp, 7d, 2h.")] = None,
) -> None:
    """Print operations as OpenLineage run events, one per line."""
    from cubeport.catalog.events import instant_of
    from cubeport.catalog.forms.canonical import dumps

    session = current(ctx)
    events = session.catalog(read_only=True).run_events(since=instant_of(since, ends=False))
    session.stream(dumps(each) + "\n" for each in events)


def export_intake(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, catalog.yaml for example.")],
    terms: Terms = None,
    not_: Not = None,
) -> None:
    """Write records as an Intake catalog: those whose data Intake can open."""
    session = current(ctx)
    written = session.catalog(read_only=True).export_intake(file, *_values.terms_of(terms, not_))
    session.result({"file": str(file), "records": written}, f"wrote {written} records to {file}")


def export_urls(ctx: typer.Context, terms: Terms = None, not_: Not = None) -> None:
    """Print a table of files as CSV: address, name, sha256, size. `datalad addurls` reads it."""
    session = current(ctx)
    session.stream(session.catalog(read_only=True).url_table(*_values.terms_of(terms, not_)))


_COMMANDS: dict[str, Callable[..., Any]] = {
    "init": init,
    "plugins": plugins,
    "profiles": profiles,
    "logs": logs,
    "operations": operations,
    "doctor": doctor,
    "recover": recover,
    "fsck": fsck,
    "gc": gc,
    "convert": convert,
    "migrate": migrate,
}
