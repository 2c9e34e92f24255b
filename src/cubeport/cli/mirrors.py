"""``push`` and ``pull``: datasets between instances."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeport.cli import _output, _progress
from cubeport.cli._completion import dataset_ids
from cubeport.cli._session import current
from cubeport.errors import Forbidden, Unauthorized, Usage

if TYPE_CHECKING:
    from cubeport.service.service import Service

KEY = "CUBEPORT_KEY"

NoPublish = Annotated[bool, typer.Option("--no-publish", help="Keep it unpublished where it arrives.")]
KeyEnv = Annotated[str, typer.Option("--key-env", metavar="NAME", help="The environment variable that has the key.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (push, pull):
        app.command(command.__name__)(command)


def push(
    ctx: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Datasets, or versions as id@version or id@tag.", autocompletion=dataset_ids),
    ],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The address of the other service.")],
    no_publish: NoPublish = False,
    key_env: KeyEnv = KEY,
) -> None:
    """Send datasets to another instance: data, texts and version ids. Data that are already there are not sent again."""
    session = current(ctx)
    service: Service = session.service
    items = []
    with _progress.shown(session) as bar, _with_key(key_env, to):
        for each in ids:
            done = service.push(each, to, key=_key(key_env), publish=not no_publish, progress=bar.listener())
            items.append(done.to_mapping())
            if service.shown(each, unpublished=True).version.copies:
                session.note(f"The NetCDF copy of {each} is not sent: the other instance has only its Zarr.")
    session.result({"kind": "ReplicationList", "items": items}, lambda: _table(items))


def pull(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Datasets there, or versions as id@version or id@tag.")],
    source: Annotated[str, typer.Option("--from", metavar="URL", help="The address of the other service.")],
    no_publish: NoPublish = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a dataset with this id that is not a mirror.")] = False,
    key_env: KeyEnv = KEY,
) -> None:
    """Copy datasets from another instance: data, texts and version ids. Data that are already here are not fetched again."""
    session = current(ctx)
    service: Service = session.service
    items = []
    with _progress.shown(session) as bar, _with_key(key_env, source):
        listen = bar.listener()
        for each in ids:
            done = service.pull(each, source, key=_key(key_env), publish=not no_publish, replace=replace, progress=listen)
            items.append(done.to_mapping())
    session.result({"kind": "ReplicationList", "items": items}, lambda: _table(items))


def verify(ctx: typer.Context, ids: Sequence[str], url: str) -> int:
    """Compare mirrors with their source. Exits with 1 if some differ."""
    session = current(ctx)
    service: Service = session.service
    with _with_key(KEY, url):
        items = [service.verify_mirror(each, url, key=_key(KEY)) for each in ids]
    rows = [(each["dataset_id"], "equal" if each["equal"] else "differs", ", ".join(each["differs"][:3])) for each in items]
    session.result({"kind": "MirrorCheckList", "items": items}, lambda: _output.table(rows, ("dataset", "verdict", "what")))
    return 0 if all(each["equal"] for each in items) else 1


@contextmanager
def _with_key(variable: str, url: str) -> Iterator[None]:
    """Say which variable takes the key, if the other service wants one."""
    try:
        yield
    except (Unauthorized, Forbidden) as exc:
        scope = exc.members.get("scope")
        exc.next_step = f"export {variable}=cp_…" + (f"; who runs {url} makes a key with the scope {scope}" if scope else "")
        raise


def _key(name: str) -> str | None:
    found = os.environ.get(name)
    if found is None and name != KEY:
        raise Usage(f"The variable {name} is not set.", next_step=f"export {name}=cp_…")
    return found


def _changed(names: Sequence[str]) -> str:
    """Return the words for what changed besides, after «was there» or «added»."""
    pointers = [each for each in names if each in ("published", "head", "not published")]
    others = [each for each in names if each not in pointers]
    return "".join(f"; {each}" for each in (*pointers[:1], *([f"new {', '.join(others)}"] if others else [])))


def _table(items: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            each["dataset_id"],
            each["version_id"],
            f"{'added' if each['added'] else 'was there'}{_changed(each['changed'])}",
            each["sent_objects"],
            each["sent_bytes"],
        )
        for each in items
    ]
    return _output.table(rows, ("dataset", "version", "state", "objects", "bytes"))
