"""One run of the command line: its global flags, the catalog that it opens once, and its output."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import typer

from cubeport.catalog.forms.folders import folder_of
from cubeport.cli import _advice, _output
from cubeport.errors import CubeportError, ExtraMissing, Forbidden, NotACatalog, PluginFailed, Unauthorized, Usage

if TYPE_CHECKING:
    from cubeport.catalog.backend import Finding
    from cubeport.catalog.catalog import Catalog
    from cubeport.catalog.plugins import Plugins
    from cubeport.cli._verbs import RecordsAfar, Verbs

MARK = ".cubeport"
"""The folder that marks its parent as a catalog."""


@dataclass(frozen=True, slots=True)
class Options:
    """The global flags: the same before and after the command's name."""

    instance: Path | None = None
    url: str | None = None
    """The address of a service, for ``--url``."""
    json: bool = False
    user: str | None = None
    plugins: bool = True
    quiet: bool = False
    verbose: bool = False
    progress: bool = True


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The functions that ``main`` passes to the service's commands."""

    serve: Callable[..., int]
    """``(root, *, announce, jobs, **flags)``: serves until a signal, and returns the exit code."""
    work: Callable[..., int]
    """``(root, *, announce, tell, **flags)``: runs jobs until a signal, and returns the exit code."""
    prepare: Callable[[Path, str], None]
    """``(root, catalog)``: makes the folder an instance with the sample templates. Does not change existing files."""
    scaled: Callable[..., Any]
    """``(root, *, prepare, note)``: a context with the database and the instances of two servers, and a method to serve them."""
    demo: Sequence[Mapping[str, Any]]
    """The requests that the demonstration ingests."""
    find: Callable[[Iterable[str]], Found]
    """``(names)``: the files and Zarr folders for the caller's names, globs and folders."""
    check: Callable[[Path], Sequence[str]]
    """``(root)``: the problems of the instance's configuration, each as one line with its position."""


class Found(Protocol):
    """The caller's own sources, as they were found."""

    @property
    def sources(self) -> Sequence[Path]:
        """Files and Zarr folders, in order, each once."""

    @property
    def skipped(self) -> Mapping[Path, str]:
        """What was left out of walked folders, each with the reason in a few words."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """The functions that ``main`` passes to the command line, which itself imports no adapters."""

    open_catalog: Callable[..., Catalog]
    """``(root, *, read_only, user_id, plugins, command)``."""
    create_catalog: Callable[..., Catalog]
    """``(root, *, catalog, user_id, plugins, command)``."""
    registers: tuple[Callable[[typer.Typer], None], ...] = ()
    """Functions ``register(app)`` that add commands. A command replaces an earlier one with the same name."""
    plugins: Callable[[Path | None], Plugins] | None = None
    """``(root)``: the plugins, without those that the catalog at *root* disables. Called only if plugins are needed."""
    migrate: Callable[[Path], Any] | None = None
    """``(root)``: ``migrate``, for a catalog that cannot be opened before it is migrated."""
    connect: Callable[[Session], Any] | None = None
    """Makes ``session.service``, the service's twin on this instance."""
    reach: Callable[[str], Verbs] | None = None
    """``(url)``: the verbs of datasets of the service at an address."""
    init_service: Callable[..., Mapping[str, Any]] | None = None
    """``(session, root, *, catalog, allow_roots, allow_origins)``: the service's part of ``init``; returns members of its
    result."""
    stores: Callable[..., Iterable[Finding]] | None = None
    """``(root, *, trial)``: the findings on the stores of versions on other machines; *trial* writes to each."""
    service: Callable[[], ServiceParts] | None = None
    """Returns the parts that ``serve``, ``demo`` and ``ingest`` need in addition to the catalog."""
    environment: Options = field(default_factory=Options)
    """The default values of the flags."""


def instance_around(folder: Path) -> Path | None:
    """Return *folder*, or the nearest folder above it, that has a catalog."""
    return next((each for each in (folder, *folder.parents) if (each / MARK).is_dir()), None)


@dataclass(slots=True)
class Session:
    """The value of ``ctx.obj`` in a command."""

    wiring: Wiring
    options: Options
    command: str = ""
    arguments: tuple[str, ...] = ()
    """The command line as it was given, for advice that repeats it."""
    files: tuple[str, ...] = ()
    """The files that it named, as they were written, for advice that has ``FILES``."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _catalog: tuple[bool, Catalog] | None = None
    _service: Any = None
    _verbs: Verbs | None = None
    _plugins: Plugins | None = None

    @property
    def root(self) -> Path:
        """The instance: from the flag, else from the environment, else the nearest parent folder that has a catalog.

        Raises
        ------
        NotACatalog
            If there is none.
        """
        if self.options.url is not None:
            raise Usage(f"cubeport {self.command} is for the folder of an instance, not for --url.")
        if self.options.instance is not None:
            return folder_of(self.options.instance).absolute()
        here = Path.cwd()
        if (found := instance_around(here)) is not None:
            return found
        words = f"Neither {here} nor a folder above it contains a catalog"
        if not (names := _advice.below(here, MARK)[:5]):
            raise NotACatalog(f"{words}.", next_step="cubeport init")
        does = "does" if len(names) == 1 else "do"
        raise NotACatalog(f"{words}; in it, {' and '.join(names)} {does}.", next_step=_advice.in_one_of(names, self.arguments))

    def catalog(self, *, read_only: bool = False) -> Catalog:
        """Return the catalog of this run, opened at the first call and closed at the end."""
        if self._catalog is not None and (read_only or not self._catalog[0]):
            return self._catalog[1]
        how = {"user_id": self.options.user, "plugins": self.options.plugins, "command": self.command}
        return self.holds(self.wiring.open_catalog(self.root, read_only=read_only, **how), read_only=read_only)

    def create(self, root: Path, *, catalog: str, **choices: Any) -> Catalog:
        """Make a catalog and use it in this run."""
        how = {"user_id": self.options.user, "plugins": self.options.plugins, "command": self.command}
        return self.holds(self.wiring.create_catalog(root, catalog=catalog, **choices, **how))

    def holds(self, catalog: Catalog, *, read_only: bool = False) -> Catalog:
        """Use the catalog in this run, which closes it at the end. Each broken plugin is reported in a line on stderr."""
        self._stack.callback(catalog.close)
        self._catalog = (read_only, catalog)
        if not read_only:
            self._stack.enter_context(_logged(catalog))
        if self.command != "recover":
            for each in catalog.recovered:
                self.note(f"operation {each.operation_id[:8]} did not finish: {each.outcome}; see cubeport operations")
        if self._plugins is None:
            self._plugins = catalog.plugins
            self.warn(self._plugins.lines())
        return catalog

    @property
    def plugins(self) -> Plugins:
        """The plugins of this run, found once. Each broken plugin is reported in a line on stderr."""
        if self._plugins is None:
            from cubeport.catalog.plugins import Plugins

            if self.wiring.plugins is None or not self.options.plugins:
                self._plugins = Plugins()
            else:
                try:
                    root: Path | None = self.root if self.options.url is None else None
                except NotACatalog:
                    root = None
                self._plugins = self.wiring.plugins(root)
                self.warn(self._plugins.lines())
        return self._plugins

    @property
    def parts(self) -> ServiceParts:
        """The service's parts. Raises Usage if the command line has none."""
        if self.wiring.service is None:
            raise Usage(f"{self.command} needs the service, which is not part of this command line.")
        return self.wiring.service()

    @property
    def service(self) -> Any:
        """The service's twin on this instance, made once."""
        if self._service is None:
            if self.wiring.connect is None:
                raise Usage(f"{self.command} needs the service, which is not part of this command line.")
            self._service = self.wiring.connect(self)
            if hasattr(self._service, "close"):
                self._stack.callback(self._service.close)
        return self._service

    @property
    def verbs(self) -> Verbs:
        """The verbs of datasets: of this instance, or of the service at ``--url``."""
        if self._verbs is None:
            if self.options.url is None:
                from cubeport.cli._here import InstanceVerbs

                self._verbs = InstanceVerbs(self.service)
            elif self.wiring.reach is None:
                raise Usage("This command line reaches no service, so it does not take --url.")
            else:
                self._verbs = self.wiring.reach(self.options.url)
        return self._verbs

    @property
    def records(self) -> RecordsAfar | None:
        """The records of the service at ``--url``; ``None`` for the instance in a folder, whose catalog has them."""
        return None if self.options.url is None else self.verbs.records

    def close(self) -> None:
        """Close everything that was opened, in reverse order."""
        self._stack.close()

    # --- results on stdout, the rest on stderr -----------------------------------------------------------------------

    def result(self, value: Any, text: Callable[[], str] | str = "") -> None:
        """Print a twin's result: its JSON with ``--json``, else *text*."""
        if self.options.json:
            from cubeport.catalog.forms.canonical import dumps

            self.write(dumps(_output.plain(value), indent=True))
        else:
            self.write(text if isinstance(text, str) else text())

    def write(self, text: str) -> None:
        """Print lines on stdout; nothing for an empty text."""
        if text:
            self.stream([text if text.endswith("\n") else text + "\n"])

    def copy(self, reading: BinaryIO) -> None:
        """Copy bytes to stdout."""
        try:
            shutil.copyfileobj(reading, sys.stdout.buffer)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_output.BROKEN_PIPE) from None

    def stream(self, lines: Iterable[str]) -> None:
        """Print lines, with their ends, as they come."""
        try:
            sys.stdout.writelines(lines)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has closed the pipe (`| head`). Python would complain once more at exit, when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_output.BROKEN_PIPE) from None

    def note(self, text: str) -> None:
        """Print a note on stderr, unless ``--quiet``."""
        if not self.options.quiet:
            sys.stderr.write(_output.printable(self.advice(text), lines=True) + "\n")

    def advice(self, text: str | None) -> str:
        """Return a text whose commands work where the caller stands; an empty text for ``None``."""
        given = self.options.instance
        instance = None if given == self.wiring.environment.instance else given
        return _advice.Place(instance, self.options.url, self.files, self.arguments).pasted(text or "")

    def warn(self, warnings: Iterable[str]) -> None:
        """Print each warning on stderr, even with ``--quiet``."""
        for warning in warnings:
            sys.stderr.write(f"warning: {_output.printable(self.advice(warning))}\n")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation on a terminal. Elsewhere ``--yes`` is required."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise Usage(f"{question} There is no terminal on which to ask.", next_step=_advice.again(self.arguments, "--yes"))
        if not typer.confirm(question, err=True):
            raise typer.Exit(_output.INTERRUPTED)

    def fail(self, exc: BaseException) -> int:
        """Print the problem and return its exit code. An unexpected error is logged in full and printed in short."""
        if not isinstance(exc, CubeportError):
            exc = self._unforeseen(exc)
        elif isinstance(exc, PluginFailed) and self.options.verbose:
            traceback.print_exception(exc)
        from cubeport.catalog.forms.redaction import redact, redact_text

        if self.options.url is not None and isinstance(exc, Unauthorized | Forbidden):
            scope = exc.members.get("scope")
            maker = f"; who runs the service makes one: cubeport keys add NAME --scope {scope}" if scope else ""
            exc.next_step = f"export CUBEPORT_KEY=cp_…{maker}"
        exc.next_step = self.advice(exc.next_step) or None
        if self.options.json:
            from cubeport.catalog.forms.canonical import dumps

            sys.stderr.write(dumps(redact(_output.plain(exc.to_mapping())), indent=True) + "\n")
        else:
            sys.stderr.write(redact_text(_output.problem(exc)) + "\n")
        return _output.exit_code(exc)

    def _unforeseen(self, exc: BaseException) -> CubeportError:
        if isinstance(exc, ModuleNotFoundError) and exc.name is not None and (extra := _extra_of(exc.name)) is not None:
            words = f"{self.command} needs {exc.name}, which is not installed."
            return ExtraMissing(words, next_step=f"pip install 'cubeport[{extra}]'", what=extra)
        next_step = "run it again with --verbose for the traceback, and report it"
        operation_id = getattr(exc, "operation_id", None)
        if self._catalog is not None:
            self._catalog[1].events.emit(
                "operation.failed",
                "An unexpected error.",
                level="error",
                exception=exc,
                command=self.command,
                operation_id=operation_id,
            )
            next_step = f"cubeport logs --operation {operation_id}" if operation_id else "cubeport logs --level error"
        if self.options.verbose:
            traceback.print_exception(exc)
        return CubeportError(f"{type(exc).__name__}: {exc}", next_step=next_step, operation_id=operation_id)


def _extra_of(module: str) -> str | None:
    """Return the smallest extra of cubeport that installs *module*, by the package's own metadata."""
    from collections import Counter
    from importlib.metadata import requires

    wanted = module.partition(".")[0].lower().replace("_", "-")
    sizes: Counter[str] = Counter()
    bringing: set[str] = set()
    for line in requires("cubeport") or ():
        requirement, _, marker = line.partition(";")
        if found := re.search(r"extra == ['\"]([a-z0-9-]+)['\"]", marker):
            sizes[found[1]] += 1
            if re.split(r"[^a-z0-9-]", requirement.strip().lower().replace("_", "-"))[0] == wanted:
                bringing.add(found[1])
    return min(bringing, key=lambda extra: (sizes[extra], extra), default=None)


@contextmanager
def _logged(catalog: Catalog) -> Iterator[None]:
    """Write logs and warnings of libraries to the event log while the catalog is open. The screen is for results and problems."""
    from cubeport.catalog.events import LoggingBridge

    bridge = LoggingBridge(catalog.events)
    root = logging.getLogger()
    root.addHandler(bridge)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(bridge)


def current(ctx: typer.Context) -> Session:
    """Return the session of a command's context."""
    session = ctx.obj
    assert isinstance(session, Session)
    return session
