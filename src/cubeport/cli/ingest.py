"""``ingest``: publish a template's dataset, files as one dataset, or each file as a dataset of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

import typer

from cubeport.catalog.forms import wording
from cubeport.catalog.forms.strictjson import strict_json
from cubeport.cli import _names, _output, _progress
from cubeport.cli._completion import dataset_ids
from cubeport.cli._session import Found, Session, current
from cubeport.cli.records import DryRun
from cubeport.errors import CubeportError, InvalidConfiguration, InvalidRequest, Usage

if TYPE_CHECKING:
    from cubeport.cli._verbs import Document

_TEMPLATE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


Storage = Annotated[
    Literal["copy", "virtual", "auto"] | None,
    typer.Option(
        "--storage",
        metavar="copy|virtual|auto",
        help="Copy the chunks, read them from the files where they lie, or each variable as it allows. Default: copy.",
    ),
]
FilterByKeys = Annotated[
    str | None,
    typer.Option("--filter-by-keys", metavar="K=V,...", help="GRIB: the messages to read, for example typeOfLevel=surface."),
]
Verify = Annotated[
    Literal["full", "sample"] | None,
    typer.Option(
        "--verify", metavar="full|sample", help="Of chunks that are not copied, decode all or a sample first. Default: full."
    ),
]

NetcdfCopy = Annotated[
    bool | None,
    typer.Option(
        "--netcdf-copy/--no-netcdf-copy",
        help="Also keep a NetCDF-4 file of all of it, for downloads. Default: as the template or the dataset has it.",
    ),
]
NoZarr = Annotated[bool, typer.Option("--no-zarr", hidden=True)]  # prefer_zarr: false; the cube is Zarr all the same


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("ingest")(ingest)
    app.command("update")(update)


def ingest(
    ctx: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(metavar="TEMPLATE|FILE", help="A template; files, folders and quoted globs; or an address.")
    ],
    id: Annotated[str | None, typer.Option("--id", help="Files: the id of the dataset.")] = None,
    series: Annotated[bool, typer.Option("--series", help="Files: make one dataset of all files, named by --id.")] = False,
    each: Annotated[bool, typer.Option("--each", help="Files: make one dataset of each file, named after the file.")] = False,
    id_pattern: Annotated[
        str | None,
        typer.Option("--id-pattern", help="With --each: the pattern of the ids, with {stem}, {suffix}, {parent} and {variable}."),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="The title. Default: the title in the data.")] = None,
    license: Annotated[str | None, typer.Option("--license", help="An SPDX identifier, for example CC-BY-4.0.")] = None,
    variables: Annotated[str | None, typer.Option("--variables", metavar="A,B", help="Only these variables.")] = None,
    template: Annotated[str | None, typer.Option("--template", metavar="F", help="Files: a YAML file of template fields.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="The group of the files to read. Default: the root.")] = None,
    filter_by_keys: FilterByKeys = None,
    asset: Annotated[str | None, typer.Option("--asset", help="STAC: the key of the asset to ingest.")] = None,
    start: Annotated[str | None, typer.Option("--start", help="First period, inclusive.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last period, inclusive.")] = None,
    extent: Annotated[str | None, typer.Option("--extent", help="A named area; see `cubeport extents`.")] = None,
    period_type: Annotated[
        str | None, typer.Option("--period-type", help="monthly, daily, 6-hourly… Default: inferred from the data.")
    ] = None,
    attrs: Annotated[str | None, typer.Option("--attrs", metavar="JSON", help="Global attributes to set.")] = None,
    chunks: Annotated[str | None, typer.Option("--chunks", metavar="JSON", help='For example {"time": 1}.')] = None,
    append_dim: Annotated[
        str | None, typer.Option("--append-dim", metavar="D", help="Join the files along this dimension.")
    ] = None,
    normalise: Annotated[
        list[str] | None,
        typer.Option(
            "--normalise", metavar="STEP", help="Files: a step that repairs them, for example 'rename: {a: b}'. Repeatable."
        ),
    ] = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform", metavar="STEP", help="Files: a step that changes values, for example 'metres_to_mm: tp'. Repeatable."
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip variables that cannot be published, and report them.")] = False,
    on_overlap: Annotated[
        Literal["error", "skip", "replace"] | None,
        typer.Option(
            "--on-overlap",
            metavar="error|skip|replace",
            help="Steps that several files have: refuse them, or use the file that begins first or last.",
        ),
    ] = None,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Accept missing periods, and list them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also ingest periods again that the dataset already has.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Files: replace the dataset as a whole.")] = False,
    publish: Annotated[
        bool | None,
        typer.Option(
            "--publish/--no-publish", help="Publish the new version at once, or keep it unpublished. Default: as the template says."
        ),
    ] = None,
    storage: Storage = None,
    verify: Verify = None,
    netcdf_copy: NetcdfCopy = None,
    no_zarr: NoZarr = False,
    tag: Annotated[str | None, typer.Option("--tag", help="A name for the version.")] = None,
    at_once: Annotated[
        bool, typer.Option("--async", help="Do not wait: a running server does the work. The files must be below sources.roots.")
    ] = False,
    dry_run: DryRun = False,
) -> int | None:
    """Publish files as one dataset, each file as a dataset, or the dataset of a template. For files of other kinds, see `add`."""
    session = current(ctx)
    request: dict[str, Any] = {
        "start": start,
        "end": end,
        "extent_id": extent,
        "allow_gaps": allow_gaps,
        "overwrite": overwrite,
        "mode": "replace" if replace else None,
        "publish": publish,
        "tag": tag,
        "dry_run": dry_run,
        "skip_bad": skip_bad,
        "on_overlap": on_overlap,
        "storage": storage,
        "verify": verify,
        "prefer_zarr": False if no_zarr else None if netcdf_copy is None else not netcdf_copy,
    }
    of_files: dict[str, Any] = {
        "attributes": _json(attrs, "--attrs", '{"institution": "DMI"}'),
        "append_dim": append_dim,
        "group": group,
        "filter_by_keys": _keys(filter_by_keys),
    }
    fields = _template_fields(template, title, license, period_type, variables, chunks)
    for name, flag, steps in (("normalise", "--normalise", normalise), ("transforms", "--transform", transform)):
        if steps:
            fields[name] = [*fields.get(name, []), *(_step(text, flag) for text in steps)]
    if fields:
        request["template"] = fields
    sources = [_local(each) for each in sources]
    if _is_template(sources, of_files=id is not None or series or each):
        only_files = {
            "--template": template, "--group": group, "--attrs": attrs, "--append-dim": append_dim,
            "--normalise": normalise, "--transform": transform, "--title": title, "--license": license,
            "--variables": variables, "--period-type": period_type, "--chunks": chunks,
            "--filter-by-keys": filter_by_keys,
        }  # fmt: skip
        for flag, given in only_files.items():
            if given:
                raise Usage(
                    f"{flag} is for files, and there is no file {sources[0]}: that names a template.",
                    next_step=f"change the template's file in config/datasets, then cubeport ingest {sources[0]}",
                )
        return _report(session, _one(session, {"dataset_id": sources[0], **request}, {}, at_once=at_once))
    _names.check_id(id)
    if (address := _address(sources, asset)) is not None:
        if each or id_pattern is not None:
            raise Usage("--each and --id-pattern are for files; an address is one dataset.")
        request["source"] = _block(address, asset, group, of_files["filter_by_keys"])
        named = id or _names.of_address(address)
        if id is None:
            session.note(f"The id is {named}, from the address; --id gives another.")
        options = {"attributes": of_files["attributes"], "append_dim": append_dim}
        return _report(session, _one(session, {"dataset_id": named, **request}, options, at_once=at_once))
    found = session.parts.find(sources)
    if each:
        if at_once:
            raise Usage("--each reports on each file, so it waits for them: leave --async out.")
        if id is not None or series:
            raise Usage(
                "--each makes one dataset of each file; --id and --series make one dataset of all files. Use only one of them."
            )
        if title is not None and len(found.sources) > 1:
            raise Usage(
                f"--title would give all {len(found.sources)} datasets the same title; without it, each has the title in its file."
            )
        return _each(session, found, id_pattern, request, of_files)
    if id_pattern is not None:
        raise Usage("--id-pattern needs --each.")
    if len(found.sources) > 1 and id is None and not series:
        raise _which(session, sources, found)
    named = id or _names.of_series(found.sources)
    if id is None:
        session.note(f"The id is {named}, from the name of the file; use --id to choose another.")
    _tell_skipped(session, found)
    session.files = tuple(sources)
    files = {"files": [str(path.absolute()) for path in found.sources], **of_files}
    return _report(session, _one(session, {"dataset_id": named, **request}, files, at_once=at_once))


def update(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.", autocompletion=dataset_ids)],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE…", help="Files, folders, quoted globs, or one address.")
    ] = None,
    named: Annotated[str | None, typer.Option("--id", hidden=True)] = None,
    on_overlap: Annotated[
        Literal["error", "skip", "replace"] | None,
        typer.Option("--on-overlap", metavar="error|skip|replace", help="What to do with steps that the dataset already has."),
    ] = None,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Accept missing periods, and list them.")] = False,
    period_type: Annotated[
        str | None, typer.Option("--period-type", help="daily, 6-hourly, irregular… Default: that of the dataset.")
    ] = None,
    variables: Annotated[str | None, typer.Option("--variables", metavar="A,B", help="Only these variables of the files.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="The group of the files to read. Default: the root.")] = None,
    filter_by_keys: FilterByKeys = None,
    append_dim: Annotated[
        str | None, typer.Option("--append-dim", metavar="D", help="The dimension along which to add the steps. Default: time.")
    ] = None,
    normalise: Annotated[
        list[str] | None, typer.Option("--normalise", metavar="STEP", help="A step that repairs the files. Repeatable.")
    ] = None,
    transform: Annotated[
        list[str] | None, typer.Option("--transform", metavar="STEP", help="A step that changes values. Repeatable.")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Do not repeat the --normalise and --transform steps with which the dataset was made.")
    ] = False,
    publish: Annotated[
        bool | None, typer.Option("--publish/--no-publish", help="Publish the new version at once, or keep it unpublished.")
    ] = None,
    storage: Storage = None,
    verify: Verify = None,
    netcdf_copy: NetcdfCopy = None,
    no_zarr: NoZarr = False,
    tag: Annotated[str | None, typer.Option("--tag", help="A name for the version.")] = None,
    dry_run: DryRun = False,
) -> int | None:
    """Add steps from files to a dataset, or replace existing steps. All other data are kept, and are shared on disk."""
    session = current(ctx)
    dataset_id = id
    if named is not None:  # as `ingest` takes it
        dataset_id, files = named, [id, *(files or ())]
    if not files:
        raise Usage("No file is named.", next_step=f"cubeport update {dataset_id} FILE…")
    request: dict[str, Any] = {
        "dataset_id": dataset_id,
        "mode": "update",
        "on_overlap": on_overlap,
        "allow_gaps": allow_gaps,
        "publish": publish,
        "storage": storage,
        "verify": verify,
        "prefer_zarr": False if no_zarr else None if netcdf_copy is None else not netcdf_copy,
        "tag": tag,
        "dry_run": dry_run,
    }
    fields = _template_fields(None, None, None, period_type, variables, None)
    for name, flag, steps in (("normalise", "--normalise", normalise), ("transforms", "--transform", transform)):
        if steps or as_is:
            fields[name] = [_step(text, flag) for text in steps or ()]
    if fields:
        request["template"] = fields
    files = [_local(each) for each in files]
    if (address := _address(files, None)) is not None:
        request["source"] = _block(address, None, group, _keys(filter_by_keys))
        return _report(session, _one(session, request, {"append_dim": append_dim}))
    found = session.parts.find(files)
    _tell_skipped(session, found)
    session.files = tuple(files)
    options = {"append_dim": append_dim, "group": group, "filter_by_keys": _keys(filter_by_keys)}
    said = {"files": [str(path.absolute()) for path in found.sources], **options}
    return _report(session, _one(session, request, said))


def _local(source: str) -> str:
    """Return the path of a ``file:`` URL of this machine (RFC 8089), as file managers copy it; everything else unchanged."""
    parts = urlsplit(source)
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path else source


def _address(sources: Sequence[str], asset: str | None) -> str | None:
    """Return the address if the name is one, ``None`` for files. Raises Usage for several addresses, or for an asset of a file."""
    from cubeport.service.ingestions import is_address

    addresses = [each for each in sources if is_address(each) and not Path(each).exists()]
    if asset is not None and not addresses:
        raise Usage("--asset names an asset of a STAC Item or Collection, and the source is not an address.")
    if not addresses:
        return None
    if len(sources) > 1:
        raise Usage(
            "One address makes one dataset. For several files, write one address with dates in it, or use a template.",
            next_step="write the dates as {YYYY}{MM}{DD}, and name --period-type, --start and --end",
        )
    return addresses[0]


def _block(address: str, asset: str | None, group: str | None, keys: Mapping[str, str]) -> dict[str, Any]:
    from cubeport.service.ingestions import in_full

    block: dict[str, Any] = in_full(address) if asset is None else {"kind": "stac", "url": address, "asset": asset}
    return block | {name: value for name, value in (("group", group), ("filter_by_keys", dict(keys))) if value}


def _is_template(sources: Sequence[str], *, of_files: bool) -> bool:
    """Return whether the name means a template: a single valid template id, no file with that name, and no flag for files."""
    return not of_files and len(sources) == 1 and not Path(sources[0]).exists() and bool(_TEMPLATE.fullmatch(sources[0]))


def _which(session: Session, sources: Sequence[str], found: Found) -> Usage:
    """Return the question for the caller, with both answers ready to paste."""
    written = list(session.arguments)
    at = next((i for i, word in enumerate(written) if word in sources), len(written))
    given = set(sources)
    words = [word for word in written if word not in given]
    words[at:at] = _names.as_globs(sources)
    line = shlex.join(["cubeport", *words])
    series = f"{line} --series --id {_names.of_series(found.sources)}"
    return Usage(
        f"These are {len(found.sources)} files. Are they one dataset, or is each file a dataset? Nothing was ingested.",
        next_step=f"one of these\n  {series}\n  {line} --each",
        commands=[series, f"{line} --each"],
    )


def _one(session: Session, request: Mapping[str, Any], files: Mapping[str, Any], *, at_once: bool = False) -> Document:
    """Run one ingestion and return it finished; with *at_once* as the service accepted it."""
    try:
        if at_once:
            return session.verbs.accept(_of_service(session, request, files))
        with _progress.shown(session) as progress:
            return session.verbs.ingest(request, files, progress.listener())
    except InvalidRequest as exc:
        raise _as_typed(exc) from None


_FLAGS: Mapping[tuple[str | int, ...], str] = {
    ("template", "normalise"): "--normalise",
    ("template", "transforms"): "--transform",
    ("template", "layout", "chunks"): "--chunks",
    ("template", "title"): "--title",
    ("template", "license"): "--license",
    ("template", "period_type"): "--period-type",
    ("template", "variables"): "--variables",
    ("start",): "--start",
    ("end",): "--end",
    ("tag",): "--tag",
}
"""The option that gives each part of a request."""


def _as_typed(refused: InvalidRequest) -> InvalidRequest:
    """Return the refusal of a request with the options that were typed, if each of its problems is in one of them."""
    said = []
    for problem in refused.errors:
        place = problem.loc[1:] if problem.loc[:1] == ("body",) else problem.loc
        flag = next((size for size in range(1, len(place) + 1) if place[:size] in _FLAGS), None)
        if flag is None:
            return refused
        inside = "".join(f" {each}" for each in place[flag:] if isinstance(each, str))
        said.append(wording.sentence(_FLAGS[place[:flag]] + inside, problem.message))
    if type(refused) is not InvalidRequest or not said:
        return refused
    return Usage("; ".join(said), errors=refused.errors, next_step=refused.next_step)


def _of_service(session: Session, request: Mapping[str, Any], files: Mapping[str, Any]) -> Document:
    """Return a request whose files a service reads itself. Raises Usage where it cannot."""
    if request["dry_run"]:
        raise Usage("--dry-run does nothing that could be left to the server. Use only one of --dry-run and --async.")
    request = {**request, **{name: files[name] for name in ("attributes", "append_dim") if files.get(name)}}
    if not (paths := files.get("files")):
        return dict(request)
    if session.options.url is not None:
        raise Usage("The files of this machine are sent before --async could answer: leave it out.")
    options = {name: files[name] for name in ("group", "filter_by_keys") if files.get(name)}
    return {**request, "source": {"kind": "files", "paths": paths, **options}}


# --- each file a dataset ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Each:
    """The result for one file of many."""

    file: Path
    dataset_id: str | None
    outcome: str
    ingestion: Document | None = None
    error: CubeportError | None = None

    def line(self, advice: Callable[[str | None], str]) -> str:
        if self.error is not None:
            words = f": {self.error.message.removesuffix('.')}." + (
                f" Next: {advice(self.error.next_step)}" if self.error.next_step else ""
            )
        else:
            assert self.ingestion is not None
            words = "".join(f"; {each['message']}" for each in self.ingestion["warnings"])
        return _output.printable(f"{self.outcome:<9} {self.dataset_id or '-':<24} {self.file}{words}")

    def document(self) -> Document:
        return {
            "file": str(self.file),
            "dataset_id": self.dataset_id,
            "outcome": self.outcome,
            "ingestion": self.ingestion,
            "error": self.error.to_mapping() if self.error is not None else None,
        }


def _each(session: Session, found: Found, pattern: str | None, request: Mapping[str, Any], of_files: Mapping[str, Any]) -> int:
    """Ingest every file as its own dataset. A refused file does not stop the others, and a second run ingests the remaining
    files.
    """
    _tell_skipped(session, found)
    pattern = "{stem}" if pattern is None else pattern
    _names.check_pattern(pattern)
    results: list[_Each] = []
    several = _Several(session, found.sources, pattern, request, of_files)
    try:
        with _progress.shown(session) as progress, several:
            progress.file(1, len(found.sources), found.sources[0].name)
            for each in several.results():
                results.append(each)
                if not session.options.json:
                    session.write(each.line(session.advice))
                if len(results) < len(found.sources):
                    progress.file(len(results) + 1, len(found.sources), found.sources[len(results)].name)
    except KeyboardInterrupt as exc:
        exc.add_note(
            f"Interrupted: {several.done()} of {len(found.sources)} files are datasets. The same command continues with the others."
        )
        raise
    counts = Counter(each.outcome for each in results)
    if session.options.json:
        session.result({"kind": "IngestionList", "items": [each.document() for each in results], "counts": dict(counts)})
    session.note(", ".join(f"{number} {word}" for word, number in counts.items()) + ".")
    return 1 if counts["refused"] else 0


class _Several:
    """Ingests several files at once, each with its own thread. There are two more than cores, for those that wait for the disk; no
    more children than cores run at the same time.

    If the context is left early, as by Ctrl-C, the running ingestions are cancelled and no further ones start.
    """

    def __init__(
        self, session: Session, files: Sequence[Path], pattern: str, request: Mapping[str, Any], of_files: Mapping[str, Any]
    ) -> None:
        self._session, self._files, self._pattern, self._request, self._of_files = session, files, pattern, request, of_files
        self._stopping = threading.Event()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(cores + 2)
        self._begun: list[Future[_Each]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)
        if exc is not None:
            for each in self._begun:
                if not each.cancelled() and (other := each.exception()) is not None and other is not exc:
                    for note in getattr(other, "__notes__", ()):
                        exc.add_note(note)

    def done(self) -> int:
        """Return of how many files there is a dataset, after the context was left: of those too whose result was not yielded."""
        from cubeport.service.jobs import TOO_LATE

        ended = [each for each in self._begun if not each.cancelled()]
        late = [note for each in ended for note in getattr(each.exception(), "__notes__", ()) if note.startswith(TOO_LATE)]
        return len(late) + sum(
            each.exception() is None and not each.result().outcome.startswith(("refused", "would ")) for each in ended
        )

    def results(self) -> Iterator[_Each]:
        """Yield the result for each file, in their order."""
        _ = self._session.verbs  # opened here, because all threads use it
        taken: dict[str, Path] = {}
        waiting: deque[Future[_Each]] = deque()
        for path in self._files:
            waiting.append(self._begin(path, taken))
            while len(waiting) > _AHEAD or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        for each in waiting:
            yield each.result()

    def _begin(self, path: Path, taken: dict[str, Path]) -> Future[_Each]:
        named = None
        try:
            named = _names.of_file(path, self._pattern, lambda path: _first_variable(self._session, path))
            if (other := taken.setdefault(named, path)) is not path:
                raise InvalidRequest(f"{other} already has the id {named}.", next_step=self._apart(path, other))
        except CubeportError as exc:
            refused: Future[_Each] = Future()
            refused.set_result(_Each(path, named, "refused", error=exc))
            return refused
        self._begun.append(self._pool.submit(self._one, path, named))
        return self._begun[-1]

    def _apart(self, path: Path, other: Path) -> str:
        """Return what gives two files different ids."""
        for pattern in ("{parent}-{stem}", "{stem}-{suffix}"):
            if len({_names.of_file(each, pattern, lambda _: "") for each in (path, other)}) > 1:
                return f"--id-pattern '{pattern}' gives them different ids"
        return f"cubeport ingest {shlex.quote(str(path))} --id ID"

    def _one(self, path: Path, named: str) -> _Each:
        files = {"files": [str(path.absolute())], **self._of_files}
        try:
            done = self._session.verbs.ingest({"dataset_id": named, **self._request}, files, self._listen)
            if done["error"] is not None:
                raise CubeportError.from_mapping(done["error"])
        except CubeportError as exc:
            return _Each(path, named, "refused", error=exc)
        return _Each(path, named, _outcome(done), done)

    def _listen(self, phase: str, done: int, total: int) -> None:  # noqa: ARG002  # each file has a line; its phases would drown it
        if self._stopping.is_set():
            raise KeyboardInterrupt


_AHEAD = 64
"""Most files that are begun before the result of the first is reported."""


def _outcome(done: Document) -> str:
    if done["status"] == "planned":
        return f"would {done['plan']['action']}"
    return "held" if done["reused"] else _PAST[done["action"] or "create"]


def _first_variable(session: Session, path: Path) -> str:
    """Return the name of the first data variable of a file, which is read in a child process."""
    extracted = session.service.catalog.extractors.extract(path.absolute()).required()
    for block in extracted.blocks.values():
        about = block.get("variables", {})
        bounds = {each["attributes"].get("bounds") for each in about.values()}
        data = [name for name in about if name not in (*block.get("coordinates", ()), *bounds)]
        if data:
            return str(max(data, key=lambda name: len(about[name]["dimensions"])))
    raise InvalidRequest(f"{path.name} has no data variable.", next_step="use {stem} in --id-pattern")


def _tell_skipped(session: Session, found: Found) -> None:
    for path, reason in list(found.skipped.items())[:_MOST_SKIPPED]:
        session.note(f"skipped   {path}: {reason}")
    if (more := Counter(list(found.skipped.values())[_MOST_SKIPPED:])) and (total := more.total()):
        session.note(f"skipped   {total} more: {', '.join(f'{reason} ({count})' for reason, count in more.most_common())}")


_MOST_SKIPPED = 10
"""Skipped files that have a line each."""


# --- what a request says ---------------------------------------------------------------------------------------------


def _keys(text: str | None) -> dict[str, str]:
    parts = [part.partition("=") for part in (text or "").split(",") if part]
    if any(not equals or not value for _, equals, value in parts):
        raise Usage(f"--filter-by-keys must be keys and their values, such as typeOfLevel=surface,level=0, not {str(text)[:80]!r}.")
    return {key.strip(): value.strip() for key, _, value in parts}


def _step(text: str, flag: str) -> Any:
    """Return a step as in YAML: a mapping with one key, or a word."""
    from cubeport.catalog.forms import strictyaml

    value = strictyaml.parse(text, flag).value
    if not isinstance(value, dict | str):
        raise Usage(f"{flag} must be a step such as 'rename: {{a: b}}', not {text[:80]!r}.")
    return value


def _template_fields(
    file: str | None, title: str | None, license: str | None, period_type: str | None, variables: str | None, chunks: str | None
) -> dict[str, Any]:
    """Return the template fields from a file, replaced by the flags."""
    from cubeport.catalog.forms import strictyaml

    written: dict[str, Any] = {}
    if file is not None:
        if not Path(file).is_file():
            raise Usage(f"--template must name a YAML file with template fields; there is no file {file}.")
        document = strictyaml.read(Path(file))
        if not isinstance(document.value, dict):
            raise InvalidConfiguration(f"{document.name}: must be a mapping of template fields")
        written = document.value
    fields = {
        "title": title,
        "license": license,
        "period_type": period_type,
        "variables": [v.strip() for v in variables.split(",")] if variables else None,
        "layout": {"chunks": given} if (given := _json(chunks, "--chunks", '{"time": 24}')) else None,
    }
    return written | {name: value for name, value in fields.items() if value is not None}


def _json(text: str | None, flag: str, example: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = strict_json(text)
    except ValueError as exc:
        raise Usage(f"{flag} must be a JSON object such as {example}: {exc}.") from exc
    if not isinstance(value, dict):
        raise Usage(f"{flag} must be a JSON object such as {example}.")
    return value


# --- what became of it -----------------------------------------------------------------------------------------------


def _report(session: Session, done: Document) -> int:
    name = done["dataset_id"]
    if done["status"] == "planned":
        session.result(done, f"{name}: would {done['plan']['action']}: {done['plan']['reason']}.")
        return 0
    if done["status"] in ("accepted", "running", "retrying"):
        session.result(
            done, f"{name}: {done['status']} as {done['ingestion_id']}; a running server of the instance (cubeport serve) does it."
        )
        session.note(f"next: cubeport jobs {done['ingestion_id'][:8]} --follow")
        return 0
    if done["error"] is not None:
        if session.options.json:
            session.write(json.dumps(done, indent=2, sort_keys=True))
        return session.fail(CubeportError.from_mapping(done["error"]))
    session.warn(each["message"] for each in done["warnings"])
    if not done["reused"]:
        words = _PAST[done["action"] or "create"]
    elif done["changed"]:
        words = f"no new data; changed: {', '.join(done['changed'])}"
    else:
        words = "nothing changed: the dataset already has these data"
    span = (done["coverage"] or {}).get("temporal")
    periods = f"; it has {_output.between(span['start'], span['end'], ' to ')}" if span and span.get("start") else ""
    session.result(done, f"{name}: {words}{periods} (version {done['version_id']}).")
    return 0


_PAST = {
    "create": "created",
    "append": "appended",
    "extend": "extended",
    "revise": "revised",
    "replace": "replaced",
    "rematerialize": "rebuilt",
}
