"""The command line as a whole: global flags anywhere, our commands, those of the service and of plugins, and the exit code."""

# ruff: noqa: ARG001 (the root callback's parameters are declared for the parser; `_remember` takes their values)
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from cubeport.cli import _help, _output
from cubeport.cli._session import Session, Wiring
from cubeport.errors import Usage

CORE = ("records", "looks", "batch", "keeping")
"""The modules of the core's commands, each with ``register(app)``; the order is that of the help."""


def build(wiring: Wiring) -> typer.core.TyperGroup:
    """Return the whole command line; every command takes the global flags, unless it has one of that name itself."""
    app = typer.Typer(
        cls=_Root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_cubeport)
    for module in CORE:
        import_module(f"cubeport.cli.{module}").register(app)
    for register in wiring.registers:
        register(app)
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    _help.shown_in_words(root.params)
    _share_globals(root, root)
    _help.add_examples(root)
    return root


def group(app: typer.Typer, name: str) -> typer.Typer:
    """Return the group of commands that was added under *name*, so that another module can add to it: ``export``, ``schema``."""
    found = (each.typer_instance for each in reversed(app.registered_groups) if each.name == name)
    return next(each for each in found if each is not None)


def run(wiring: Wiring, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # What is wrong with the line itself must be told in the form that it asks for, whether or not it could be read so far.
    session = Session(wiring, replace(wiring.environment, json="--json" in arguments, plugins=_plugins(wiring, arguments)))
    session.arguments = tuple(arguments)
    try:
        returned = build(wiring).main(args=arguments, prog_name="cubeport", standalone_mode=False, obj=session)
        return returned if isinstance(returned, int) else 0
    except typer.TyperException as exc:
        context = getattr(exc, "ctx", None)
        command = context.command_path if context is not None else "cubeport"
        return session.fail(Usage(exc.format_message(), next_step=f"{command} --help"))
    except typer.Abort:
        return _output.INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last net: nothing is carried on with, it is reported and the run ends
        return session.fail(exc)
    finally:
        session.close()


def _plugins(wiring: Wiring, arguments: Sequence[str]) -> bool:
    return wiring.environment.plugins and "--no-plugins" not in arguments


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    """Keep a global flag that was given, before or after the command's name; the later one wins."""
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
        sys.stdout.write(_help.FIRST)
    else:
        ctx.obj.command = ctx.invoked_subcommand


_GLOBAL = frozenset({"instance", "json", "user", "no_plugins", "quiet", "verbose", "no_progress"})


def _share_globals(root: typer.core.TyperGroup, group: typer.core.TyperGroup) -> None:
    for command in group.commands.values():
        taken = {name for param in command.params for name in param.opts}
        _help.shown_in_words(command.params)
        for param in (each for each in root.params if each.name in _GLOBAL):
            # A command's own -o or --user wins; of a shared flag only the free ones of its names are left.
            if free := [name for name in param.opts if name not in taken]:
                twin = _help.hidden(param)
                twin.opts = free
                command.params.append(twin)
        if isinstance(command, typer.core.TyperGroup):
            _share_globals(root, command)


class _Root(typer.core.TyperGroup):
    """The root, which asks for the groups of plugins only when it needs them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.theirs: set[str] = set()

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            # What was interrupted may have noted what became of it; a bar may stand on this line.
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
        return super().list_commands(ctx)

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
            _share_globals(self, _alone(command))


def _alone(command: Any) -> typer.core.TyperGroup:
    return typer.core.TyperGroup(name="", commands={command.name: command})
