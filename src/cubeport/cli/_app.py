"""The whole command line: global flags at any position, our commands, the commands of the service and of plugins, and the exit
code.
"""

# ruff: noqa: ARG001 (the root callback's parameters are declared for the parser; `_remember` takes their values)
from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from cubeport.cli import _advice, _help, _output
from cubeport.cli._session import Session, Wiring, instance_around
from cubeport.errors import Usage

CORE = ("records", "looks", "batch", "keeping", "selecting")
"""The modules of the core's commands, in the order of the help. Each has ``register(app)``."""


def build(wiring: Wiring) -> typer.core.TyperGroup:
    """Return the whole command line. Every command accepts the global flags, unless it has its own flag with the same name."""
    app = typer.Typer(rich_markup_mode=None)
    for module in CORE:
        import_module(f"cubeport.cli.{module}").register(app)
    for register in wiring.registers:
        register(app)
    bare = typer.Typer(
        cls=_Root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    bare.callback(invoke_without_command=True)(_cubeport)
    root = typer.main.get_command(bare)
    assert isinstance(root, typer.core.TyperGroup)
    _help.shown_in_words(root.params)
    root.commands = _Commands(app, lambda name, command: _finish(root, name, command))
    return root


def group(app: typer.Typer, name: str) -> typer.Typer:
    """Return the group of commands with this name, so that another module can add commands to it: ``export``, ``schema``."""
    found = (each.typer_instance for each in reversed(app.registered_groups) if each.name == name)
    return next(each for each in found if each is not None)


def run(wiring: Wiring, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # A problem of the command line must be reported in the requested form, even if the flags could not be read yet.
    session = Session(wiring, replace(wiring.environment, json="--json" in arguments, plugins=_plugins(wiring, arguments)))
    session.arguments = tuple(arguments)
    screen, told_once = logging.lastResort or logging.NullHandler(), _not_raised(session)
    screen.addFilter(told_once)
    try:
        returned = build(wiring).main(args=arguments, prog_name="cubeport", standalone_mode=False, obj=session)
        return returned if isinstance(returned, int) else 0
    except typer.TyperException as exc:
        context = getattr(exc, "ctx", None)
        return session.fail(_misused(context, exc))
    except typer.Abort:
        return _output.INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last net: nothing is carried on with, it is reported and the run ends
        return session.fail(exc)
    finally:
        session.close()
        screen.removeFilter(told_once)


def _not_raised(session: Session) -> Callable[[logging.LogRecord], bool]:
    """Return whether a log line is for the screen: with ``--verbose``, or if no error says the same."""
    return lambda record: session.options.verbose or not getattr(record, "raised", False)


_OF_RECORDS = {"--schema", "--meta", "--kind", "--tag", "--key"}


def _misused(context: typer.Context | None, exc: typer.TyperException) -> Usage:
    """Return the error for a command line that cannot be parsed."""
    command = context.command_path if context is not None else "cubeport"
    said = exc.format_message().replace("Value error, ", "")  # as pydantic begins the messages of others
    if context is not None and context.info_name == "ingest" and getattr(exc, "option_name", None) in _OF_RECORDS:
        words = "`ingest` publishes datasets; to make records of files, use `import`."
        return Usage(f"{said} {words}", next_step="cubeport import --help")
    return Usage(said, next_step=f"{command} --help")


def _plugins(wiring: Wiring, arguments: Sequence[str]) -> bool:
    return wiring.environment.plugins and "--no-plugins" not in arguments


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Store a global flag, given before or after the command's name. The later one wins."""
    session = ctx.find_root().obj
    if value is None or value is False or not isinstance(session, Session):
        return
    given = str(param.name)
    name, kept = {"no_plugins": ("plugins", False), "no_progress": ("progress", False)}.get(given, (given, value))
    session.options = replace(session.options, **{name: kept})


def _flag(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, callback=_remember, expose_value=False, show_default=False)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        sys.stdout.write(f"cubeport {version('cubeport')}\n")
        raise typer.Exit


def _cubeport(
    ctx: typer.Context,
    instance: Annotated[
        Path | None,
        _flag(
            "The folder of the instance. Default: CUBEPORT_INSTANCE, or the nearest parent folder that is one.", "--instance", "-i"
        ),
    ] = None,
    url: Annotated[
        str | None,
        _flag("The address of a service: run the command there, not in a folder. CUBEPORT_KEY has the key.", "--url"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.", callback=_remember, expose_value=False)] = False,
    user: Annotated[str | None, _flag("The user to record. Default: CUBEPORT_USER, or the user of the system.")] = None,
    no_plugins: Annotated[
        bool, typer.Option("--no-plugins", help="Do not load plugins.", callback=_remember, expose_value=False)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and warnings.", callback=_remember, expose_value=False)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print more on stderr.", callback=_remember, expose_value=False)
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Do not show progress bars.", callback=_remember, expose_value=False)
    ] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Publish NetCDF and Zarr data as STAC, Zarr and OGC API, all from one record."""
    if ctx.invoked_subcommand is None:
        elsewhere = ctx.obj.options.instance or ctx.obj.options.url
        around = None if elsewhere else instance_around(Path.cwd())
        sys.stdout.write(_help.FIRST if around is None else _help.INSIDE.format(instance=around))
    else:
        from cubeport.catalog.disk.locks import doing

        ctx.obj.command = ctx.invoked_subcommand
        doing(ctx.invoked_subcommand)


_GLOBAL = frozenset({"instance", "url", "json", "user", "no_plugins", "quiet", "verbose", "no_progress"})


class _Commands(MutableMapping[str, Any]):
    """The root's commands by name. Each is made when it is first used, because making all of them takes longer than most commands
    run.
    """

    def __init__(self, app: typer.Typer, finish: Callable[[str, Any], None]) -> None:
        names = {each.name or typer.main.get_command_name(_name(each)): each for each in app.registered_commands}
        self._waiting: dict[str, Any] = names | {str(each.name): each for each in app.registered_groups}
        self._made: dict[str, Any] = {}
        self._finish = finish

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, self._waiting[name])
            self._finish(name, self._made[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._waiting.setdefault(name, None)
        self._made[name] = command
        self._finish(name, command)

    def __delitem__(self, name: str) -> None:
        del self._waiting[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def help(self, name: str) -> str:
        """Return a command's help without making the command."""
        if name in self._made:
            return self._made[name].help or ""
        waiting = self._waiting[name]
        if isinstance(waiting, typer.models.TyperInfo):
            return typer.main.solve_typer_info_help(waiting)
        return waiting.help or inspect.getdoc(waiting.callback) or ""


def _name(registered: typer.models.CommandInfo) -> str:
    """Return the name of the function that was registered as a command."""
    return getattr(registered.callback, "__name__", "")


def _make(name: str, registered: Any) -> Any:
    """Return the command, or group of commands, that was registered under *name*."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    if isinstance(registered, typer.models.TyperInfo):
        alone.registered_groups.append(registered)
        found = typer.main.get_command(alone)
        assert isinstance(found, typer.core.TyperGroup)
        return found.commands[name]
    alone.registered_commands.append(registered)
    return typer.main.get_command(alone)


def _finish(root: typer.core.TyperGroup, name: str, command: Any) -> None:
    """Add the global flags, the examples and plain names of values to a command, or to each command of a group."""
    taken = {each for param in command.params for each in param.opts}
    _help.shown_in_words(command.params)
    for param in (each for each in root.params if each.name in _GLOBAL):
        # A command's own -o or --user wins; of a shared flag only the free ones of its names are left.
        if free := [each for each in param.opts if each not in taken]:
            twin = _help.hidden(param)
            twin.opts = free
            command.params.append(twin)
    if isinstance(command, typer.core.TyperGroup):
        for inner, each in command.commands.items():
            each.short_help = _help.sentence(each.help or "")  # whole, where typer would cut it after 45 letters
            _finish(root, f"{name} {inner}", each)
    else:
        _help.add_examples(name, command)
        command.invoke = partial(_where_it_works, name, command.invoke)


def _where_it_works(name: str, invoke: Callable[[Any], Any], ctx: Any) -> Any:
    """Run a command, unless it is for a folder and the caller names a service. Raises Usage."""
    session = ctx.find_root().obj
    if isinstance(session, Session) and session.options.url is not None:
        if session.options.instance is not None and session.options.instance != session.wiring.environment.instance:
            raise Usage("--instance names a folder and --url a service: give one of them.")
        if not session.options.url.startswith(("http://", "https://")):
            given = session.options.url
            written = [word.replace(given, f"http://{given}") for word in session.arguments]
            raise Usage(f"--url takes an address with http:// or https://, not {given!r}.", next_step=_advice.again(written))
        _help.refuse_elsewhere(name)
    return invoke(ctx)


class _Root(typer.core.TyperGroup):
    """The root, which loads the command groups of plugins only when it needs them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.theirs: set[str] = set()

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            # The interrupted command may have recorded its outcome. A progress bar may be on this line.
            ctx.obj.note("\n" + "\n".join(getattr(exc, "__notes__", None) or ["Interrupted."]))
            raise typer.Exit(_output.INTERRUPTED) from exc

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        _help.write_groups(self, ctx, formatter)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_plugins(ctx)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_plugins(ctx)
        return list(self.commands)  # only names: typer's method would make all commands

    def _add_plugins(self, ctx: Any) -> None:
        if not isinstance(ctx.obj, Session) or not ctx.obj.options.plugins:
            return
        for given, plugin in ctx.obj.plugins.given("cli"):
            if given.name in self.theirs:
                continue
            if given.name in self.commands:
                ctx.obj.warn([f"plugin {plugin} cannot provide the command {given.name}: cubeport has a command of that name"])
                continue
            command = typer.main.get_command(given.value)
            command.name = given.name
            self.theirs.add(given.name)
            self.commands[given.name] = command
