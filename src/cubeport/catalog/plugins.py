"""Plugins of other packages, found by their entry points ``cubeport.plugins = module:register``.

``register(registry)`` is called once. A plugin is used completely or not at all: if it fails, or uses a name that already has an
owner, it adds nothing and is reported in one line. Everything else works.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cubeport.catalog.artifacts.paths import FIELDS
from cubeport.errors import CubeportError, InvalidRequest, NamespaceTaken, PluginFailed

# Where nothing is installed, nothing more is needed: `cubeport --help` asks for plugins.
if TYPE_CHECKING:
    from pydantic import BaseModel

    from cubeport.catalog.events import EventLog
    from cubeport.catalog.extraction import MetadataExtractor
    from cubeport.catalog.hooks import HookContext, HookManager, HookResult

GROUP = "cubeport.plugins"

Kind = Literal[
    "schema", "extractor", "hook", "template_field", "operation", "relation", "step", "undo", "writer", "profile_type", "cli",
    "formatter", "source", "recipe", "transform", "availability",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What a plugin can register; the last four are for the service."""

RESERVED: Mapping[Kind, tuple[str, ...]] = {
    "extractor": ("file", "directory", "netcdf", "zarr"),
    "template_field": FIELDS,
    "step": (
        "extract-metadata", "validate-record", "validate-data-schema", "plan-path", "write-artifact", "transform", "commit-record",
    ),
    "undo": ("remove_file", "remove_tree", "remove_temp", "abort_upload", "hook_undo"),
    "relation": ("derived_from", "version_of", "member_of", "produced_by", "uses"),
    "operation": (
        "add", "ingest", "update", "extract_metadata", "validate", "transform", "export", "import", "delete", "restore", "purge",
        "fetch", "drop", "convert", "repair", "run",
    ),
    "writer": ("unzip",),
    "profile_type": ("file", "local"),
    "formatter": ("table", "compact", "csv"),
    "source": ("iris-sample-data",),
    "recipe": ("normal", "anomaly", "resample"),
}  # fmt: skip
"""Reserved names. The command line itself reserves the names of commands."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration of a plugin."""

    kind: Kind
    name: str
    value: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin that was found."""

    name: str
    version: str | None
    registrations: tuple[Registration, ...] = ()
    error: str | None = None
    disabled: bool = False

    def to_mapping(self) -> dict[str, Any]:
        """Return the plugin as ``cubeport plugins`` shows it."""
        gives: dict[str, list[str]] = {}
        for each in self.registrations:
            gives.setdefault(each.kind, []).append(each.name)
        return {"name": self.name, "version": self.version, "gives": gives, "error": self.error, "disabled": self.disabled}


class PluginRegistry:
    """The argument of a plugin's ``register``, with one method for each kind of registration."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self._given: list[Registration] = []

    def schema(self, name: str, model: type[BaseModel] | Mapping[str, Any], version: str = "1") -> None:
        """Register a metadata schema: a Pydantic class or a JSON Schema (2020-12)."""
        from cubeport.catalog.schemas import schema_of

        schema_of(name, model, version)
        self._add("schema", name, model, version=version)

    def extractor(self, extractor: MetadataExtractor) -> None:
        """Register a metadata extractor."""
        self._add("extractor", extractor.name, extractor)

    def hook(
        self,
        point: str,
        fn: Callable[[HookContext, Any], HookResult | None],
        *,
        name: str,
        required: bool | None = None,
        priority: int = 100,
        undo: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Register a hook, with the arguments of ``catalog.hooks.register``."""
        self._add("hook", name, fn, point=point, required=required, priority=priority, undo=undo)

    def template_field(self, name: str, fn: Callable[[Mapping[str, Any]], str]) -> None:
        """Register a field of path templates: ``fn(fields)`` returns its text."""
        self._add("template_field", name, fn)

    def operation(self, name: str) -> None:
        """Register a type of operation, for ``operation.type`` of a pipeline."""
        self._add("operation", name)

    def relation(self, name: str) -> None:
        """Register a lineage relation."""
        self._add("relation", name)

    def step(self, name: str, step: Any) -> None:
        """Register a pipeline step: a :class:`~cubeport.catalog.pipelines.Step`."""
        self._add("step", name, step)

    def undo(self, name: str, fn: Callable[[Mapping[str, Any]], None]) -> None:
        """Register a compensation: ``fn(data)`` undoes what ``uow.compensate({"undo": name, …})`` recorded."""
        self._add("undo", name, fn)

    def writer(self, name: str, writer: Any) -> None:
        """Register an :class:`~cubeport.catalog.artifacts.writers.ArtifactWriter`."""
        self._add("writer", name, writer)

    def profile_type(self, protocol: str, factory: Callable[..., Any]) -> None:
        """Register a type of storage profile: ``factory(name, settings, root)`` returns a Profile for ``protocol: …``."""
        self._add("profile_type", protocol, factory)

    def cli(self, name: str, app: Any) -> None:
        """Register a group of commands: a ``typer.Typer``."""
        self._add("cli", name, app)

    def formatter(self, name: str, fn: Callable[[Iterable[Any]], str]) -> None:
        """Register a format of search results: ``fn(records)`` returns the text of ``search --format name``."""
        self._add("formatter", name, fn)

    def source(self, name: str, factory: Callable[..., Any]) -> None:
        """Register a source for ``kind: plugin``: ``factory(params)`` returns a ``cubeport.cubes.sources.PeriodSource``."""
        self._add("source", name, factory)

    def recipe(self, name: str, fn: Callable[..., Any], *, inputs: Sequence[str] = ("data",), revision: int = 1) -> None:
        """Register a recipe of derived datasets: ``fn(data, …, *, parameter=default)`` returns an ``xarray.Dataset``.

        Raise *revision* when the function gives other values: datasets of an earlier one are stale.
        """
        self._add("recipe", name, fn, inputs=tuple(inputs), revision=revision)

    def transform(self, name: str, fn: Callable[..., Any]) -> None:
        """Register a transform for ``transforms: [{plugin: {name: …}}]``: ``fn(values, *, parameter=default)`` returns the new
        values, of which each depends on the value in its place only.
        """
        self._add("transform", name, fn)

    def availability(self, name: str, fn: Callable[..., Any]) -> None:
        """Give templates a rule (``sync.availability.function``): ``fn(template, end)`` returns the last period there is.

        *template* is the template as a mapping. *end* is the period that would be asked for, a text as the result is: ``2024-01``.
        """
        self._add("availability", name, fn)

    def _add(self, kind: Kind, name: str, value: Any = None, **options: Any) -> None:
        from cubeport.catalog.forms.canonical import check_name

        try:
            check_name(name)
        except ValueError as exc:
            raise InvalidRequest(f"{name!r} is not a name for a {kind}: it {exc}") from None
        given = Registration(kind, name, value, options)
        if given not in self._given:
            self._given.append(given)


class PluginCode:
    """A function, writer or step of a plugin. An error of its own code becomes PluginFailed, which names the plugin.

    Errors of cubeport pass as they are, and so do those of the system: a full disk is not the plugin's fault.
    """

    def __init__(self, given: Registration, plugin: str) -> None:
        self._given = given
        self._plugin = plugin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given.value, name)

    def __call__(self, *values: Any) -> Any:
        """Call the function."""
        return self._called(self._given.value, values)

    def run(self, *values: Any) -> Any:
        """Run the step."""
        return self._called(self._given.value.run, values)

    def write(self, *values: Any) -> Any:
        """Let the writer write."""
        return self._called(self._given.value.write, values)

    def _called(self, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        try:
            return function(*values)
        except (CubeportError, OSError):
            raise
        except Exception as exc:
            words = f"The {self._given.kind.replace('_', ' ')} {self._given.name} of the plugin {self._plugin} failed"
            raise PluginFailed(
                f"{words}: {type(exc).__name__}: {exc}",
                next_step="run it again with --verbose for the traceback, and report it to the authors of the plugin",
                plugin=self._plugin,
            ) from exc


@dataclass(slots=True)
class Plugins:
    """The plugins of this process."""

    all: list[Plugin] = field(default_factory=list)

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.all)

    @property
    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded."""
        return [plugin for plugin in self.all if plugin.error is not None]

    def given(self, kind: Kind) -> list[tuple[Registration, str]]:
        """Return all registrations of *kind*, each with the name of its plugin."""
        return [(each, plugin.name) for plugin in self.all for each in plugin.registrations if each.kind == kind]

    def values(self, kind: Kind) -> dict[str, Any]:
        """Return the registered objects of *kind* by name, for kinds with one object for each name."""
        return {each.name: each.value for each, _ in self.given(kind)}

    def called(self, kind: Kind) -> dict[str, PluginCode]:
        """Return what was given of *kind* by name, as code whose failures name the plugin."""
        return {each.name: PluginCode(each, plugin) for each, plugin in self.given(kind)}

    def lines(self) -> list[str]:
        """Return one line for each broken plugin."""
        return [f"plugin {plugin.name} is not used: {plugin.error}" for plugin in self.broken]

    def tell(self, events: EventLog) -> None:
        """Log an event for each broken plugin."""
        for plugin in self.broken:
            events.emit("plugin.failed", str(plugin.error), level="error", plugin=plugin.name, version=plugin.version)


def installed() -> tuple[metadata.EntryPoint, ...]:
    """Return the entry points of all installed plugins, read again only after a folder of the path has changed."""
    return _installed(tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=8)  # reading the metadata of 200 packages takes longer than the rest of opening a catalog
def _installed(_path: tuple[tuple[str, int | None], ...]) -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=GROUP))


def _changed(folder: str) -> int | None:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return None


def discover(
    *,
    disabled: Sequence[str] = (),
    reserved: Mapping[Kind, Iterable[str]] = RESERVED,
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> Plugins:
    """Load all installed plugins in the order of their names.

    Parameters
    ----------
    disabled
        The names of plugins that must not be loaded.
    reserved
        Reserved names by kind.
    """
    found = installed() if entry_points is None else entry_points
    owners: dict[tuple[Kind, str], str] = {(kind, name): "cubeport" for kind, names in reserved.items() for name in names}
    loaded: list[Plugin] = []
    for point in sorted(set(found), key=lambda each: (each.name, each.value)):
        version = point.dist.version if point.dist is not None else None
        if point.name in disabled:
            loaded.append(Plugin(point.name, version, disabled=True))
            continue
        try:
            given = _load(point)
            _claim(point.name, given, owners, [each for plugin in loaded for each in plugin.registrations])
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - other people's code: whatever it does at import costs it alone
            message = exc.message if isinstance(exc, CubeportError) else f"{type(exc).__name__}: {exc}"
            loaded.append(Plugin(point.name, version, error=" ".join(message.split())))
        else:
            loaded.append(Plugin(point.name, version, tuple(given)))
    return Plugins(loaded)


def _load(point: metadata.EntryPoint) -> list[Registration]:
    registry = PluginRegistry(point.name)
    point.load()(registry)
    return registry._given  # noqa: SLF001 - the registry is this module's; plugins see its methods only


def _claim(plugin: str, given: Sequence[Registration], owners: dict[tuple[Kind, str], str], before: Sequence[Registration]) -> None:
    """Assign the names to the plugin. If one has an owner already, raises NamespaceTaken and assigns none."""
    from cubeport.catalog.hooks import HookManager

    hooks = HookManager()
    for each in (*before, *given):
        if each.kind == "hook":
            hooks.register(each.options["point"], each.value, name=each.name, plugin=plugin, **_hook_options(each))
    mine: set[tuple[Kind, str]] = set()
    for each in given:
        # A schema has versions and a hook has several points, so the same owner can register a name more than once.
        key = each.kind, each.name
        if (owner := owners.get(key)) is not None:
            raise NamespaceTaken(f"the {each.kind} {each.name} already belongs to {owner}, so {plugin} cannot provide it")
        if key in mine and each.kind not in ("hook", "schema"):
            raise NamespaceTaken(f"{plugin} provides the {each.kind} {each.name} twice, differently")
        mine.add(key)
    owners.update(dict.fromkeys(mine, plugin))


def _hook_options(each: Registration) -> dict[str, Any]:
    return {name: each.options[name] for name in ("required", "priority", "undo")}


def join_hooks(plugins: Plugins, hooks: HookManager) -> None:
    """Register the plugins' hooks with a catalog."""
    for each, plugin in plugins.given("hook"):
        hooks.register(each.options["point"], each.value, name=each.name, plugin=plugin, **_hook_options(each))
