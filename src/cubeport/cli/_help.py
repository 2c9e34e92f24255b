"""The parts of help other than flags: the groups of commands, examples, and the text that ``cubeport`` alone prints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.errors import Usage

FIRST = """\
cubeport publishes NetCDF and Zarr data as STAC, Zarr over HTTP and OGC API.

  Try it with real sample data:
    cubeport demo

  Publish your own files:
    cubeport init climate
    cubeport ingest --instance climate FILES... --id tas      (--each: one dataset for each file)

  Serve your datasets:
    cubeport serve --instance climate

To list all commands, run cubeport --help. For help and examples, run for instance cubeport ingest -h.
"""
"""Printed by ``cubeport`` alone: the three most common tasks."""

INSIDE = """\
cubeport publishes NetCDF and Zarr data as STAC, Zarr over HTTP and OGC API.
Commands here use the instance {instance}.

  Publish your own files:
    cubeport ingest FILES... --id tas      (--each: one dataset for each file)

  See what is published:
    cubeport datasets

  Serve your datasets:
    cubeport serve

To list all commands, run cubeport --help. For help and examples, run for instance cubeport ingest -h.
"""
"""Printed instead in the folder of an instance and below it."""

GROUPS: Mapping[str, Sequence[str]] = {
    "Publish data": (
        "demo", "init", "ingest", "update", "sync", "refresh", "describe", "publish", "unpublish",
        "apply", "lock", "derive", "recipes", "push", "pull", "serve", "worker", "export",
    ),
    "See what is published": (
        "datasets", "versions", "tag", "rollback", "diff", "changes", "jobs", "templates", "extents", "zones", "usage",
    ),
    "Catalogue files": (
        "add", "import", "run", "search", "show", "history", "path", "cat", "get", "edit", "replace",
        "lineage", "fields", "extract-metadata", "validate", "schema",
        "fetch", "drop", "view",
    ),
    "Remove and restore": ("list", "delete", "restore", "detach", "purge"),
    "Maintain an instance": (
        "check-config", "keys", "webhooks", "info", "doctor",
        "fsck", "verify", "recover", "gc", "logs", "operations", "profiles", "plugins",
        "convert", "migrate",
    ),
}  # fmt: skip
"""Commands by task, publishing first. A command in no group is listed last."""

EXAMPLES: Mapping[str, Sequence[str]] = {
    "demo": ("cubeport demo", "cubeport demo /tmp/cubes --port 0 --no-serve"),
    "init": ("cubeport init climate", "cubeport init climate --allow-root /data --allow-origin https://data.example.org"),
    "ingest": (
        "cubeport ingest 'data/tas_*.nc' --id tas --title 'Air temperature'",
        "cubeport ingest data/ --each",
        "cubeport ingest data/ --each --id-pattern '{parent}-{stem}' --license CC-BY-4.0",
        "cubeport ingest a1b-temperature --start 1900 --end 1999 --extent great-lakes",
        "cubeport ingest tas_2024.zarr --dry-run",
        "cubeport ingest tas_2024.nc --id tas --url https://data.example.org",
    ),
    "update": ("cubeport update tas data/tas_2025-01.nc", "cubeport update tas 'data/new/*.nc' --on-overlap replace"),
    "sync": ("cubeport sync tas", "cubeport sync --all --plan", "cubeport sync --due --json"),
    "describe": (
        "cubeport describe tas --title 'Air temperature' --license CC-BY-4.0",
        "cubeport describe tas --unset title",
    ),
    "list": (
        "cubeport list",
        'cubeport list --where "updated_at < 2026-01-01" --delete --dry-run',
        "cubeport list --kind dataset --where 'title : draft' --delete --purge --yes",
    ),
    "refresh": ("cubeport refresh", "cubeport refresh tas"),
    "tag": ("cubeport tag tas paper", "cubeport tag tas paper --version 3f2a --force", "cubeport tag tas paper --delete"),
    "rollback": ("cubeport rollback tas --to 3f2a",),
    "changes": ("cubeport changes", "cubeport changes tas --json"),
    "usage": ("cubeport usage",),
    "publish": ("cubeport publish tas", "cubeport publish tas --version 3f2a"),
    "unpublish": ("cubeport unpublish tas",),
    "serve": ("cubeport serve", "cubeport serve --port 9000 --read-only --public-url https://data.example.org"),
    "worker": ("cubeport worker", "cubeport worker --jobs 4"),
    "export stac": ("cubeport export stac public --url http://127.0.0.1:8000", "cubeport export stac public sst tas --link"),
    "export static": ("cubeport export static public", "cubeport export static public sst tas --dry-run"),
    "export zarr": ("cubeport export zarr sst --to public/sst.zarr", "cubeport export zarr sst@v1 --to s3://bucket/sst-v1 --check"),
    "export ro-crate": ("cubeport export ro-crate crate year=2018 --license https://creativecommons.org/licenses/by/4.0/",),
    "export intake": ("cubeport export intake catalog.yaml kind=dataset",),
    "export urls": ("cubeport export urls year=2018 > files.csv",),
    "export openlineage": ("cubeport export openlineage --since 7d",),
    "export records": ("cubeport export records -o records.ndjson", "cubeport export records year=2018 --with-bytes copies"),
    "datasets": (
        "cubeport datasets",
        "cubeport datasets --url https://data.example.org",
        "cubeport datasets tas",
        "cubeport datasets --updated-since 7d --sort=-last_updated",
        "cubeport datasets --bbox -10,40,30,60 --variable tas --json",
    ),
    "versions": ("cubeport versions tas",),
    "diff": ("cubeport diff tas@3f2a tas@latest", "cubeport diff tas 3f2a", "cubeport diff tas@paper --json"),
    "jobs": (
        "cubeport jobs",
        "cubeport jobs --status failed --since 7d",
        "cubeport jobs 3f2a",
        "cubeport jobs 3f2a --follow",
        "cubeport jobs 3f2a --cancel",
    ),
    "templates": ("cubeport templates",),
    "extents": ("cubeport extents --json",),
    "zones add": (
        "cubeport zones add districts.geojson",
        "cubeport zones add admin2.geojson --id districts --id-property shapeID --name-property shapeName",
    ),
    "zones list": ("cubeport zones list",),
    "zones show": ("cubeport zones show districts", "cubeport zones show districts --json"),
    "zones remove": ("cubeport zones remove districts",),
    "add": ("cubeport add report.pdf --title Report --meta year=2018", "cubeport add https://data.example.org/a.nc --key a"),
    "import": ("cubeport import 'inbox/*.pdf' --kind report", "cubeport import manifest.yaml", "cubeport import records.ndjson"),
    "run": ("cubeport run tidy report.pdf",),
    "search": ("cubeport search year>=2018 author=Ada", "cubeport search --text temperature --format csv"),
    "show": ("cubeport show 3f2a", "cubeport show 3f2a --json"),
    "history": ("cubeport history 3f2a", "cubeport show 3f2a@1"),
    "path": ("cubeport path 3f2a",),
    "cat": ("cubeport cat 3f2a --artifact log",),
    "get": ("cubeport get 3f2a -o copies",),
    "replace": ("cubeport replace 3f2a report.pdf",),
    "detach": ("cubeport detach 3f2a preview --yes",),
    "edit": ("cubeport edit 3f2a --set year=2019 --tag checked",),
    "lineage": ("cubeport lineage 3f2a --up",),
    "fields": ("cubeport fields",),
    "extract-metadata": ("cubeport extract-metadata 3f2a",),
    "validate": ("cubeport validate --all",),
    "schema list": ("cubeport schema list",),
    "schema show": ("cubeport schema show paper",),
    "schema export": ("cubeport schema export paper -o paper.json",),
    "schema import": ("cubeport schema import paper paper.json --version 2",),
    "fetch": ("cubeport fetch 3f2a",),
    "drop": ("cubeport drop 3f2a",),
    "view": ("cubeport view links --template '{title_slug}' --apply",),
    "delete": ("cubeport delete tas", "cubeport delete tas --purge --yes"),
    "restore": ("cubeport restore tas",),
    "purge": ("cubeport purge 3f2a --yes",),
    "check-config": ("cubeport check-config", "cubeport check-config --instance climate --json"),
    "keys add": ("cubeport keys add ann --scope ingest --datasets 'sea-*' --expires 2030-01-01T00:00:00Z",),
    "keys list": ("cubeport keys list",),
    "keys revoke": ("cubeport keys revoke 3f2a9c01",),
    "apply": ("cubeport apply sources.toml --dry-run", "cubeport apply"),
    "lock": ("cubeport lock sources.toml",),
    "derive": (
        "cubeport derive normal tas --id tas-normal --param start=1991 --param end=2020",
        "cubeport derive resample tas --id tas-monthly --param period_type=monthly",
        "cubeport derive --list",
    ),
    "recipes": ("cubeport recipes",),
    "push": (
        "cubeport push tas --to https://data.example.org",
        "cubeport push tas@paper --to https://data.example.org --no-publish",
    ),
    "pull": ("cubeport pull tas --from https://data.example.org", "cubeport pull tas@paper --from https://data.example.org"),
    "webhooks list": ("cubeport webhooks list",),
    "webhooks test": ("cubeport webhooks test 3f2a9c01",),
    "info": ("cubeport info",),
    "doctor": ("cubeport doctor", "cubeport doctor --strict"),
    "fsck": ("cubeport fsck --data",),
    "verify": ("cubeport verify --all", "cubeport verify tas --against https://data.example.org"),
    "recover": ("cubeport recover --dry-run",),
    "gc": ("cubeport gc --dry-run", "cubeport gc --older-than 7d"),
    "logs": ("cubeport logs --since 2h --level warning",),
    "operations": ("cubeport operations", "cubeport operations 3f2a"),
    "profiles": ("cubeport profiles",),
    "plugins": ("cubeport plugins",),
    "convert": ("cubeport convert --to tinydb",),
    "migrate": ("cubeport migrate",),
}
"""Lines that work when pasted, if the names in them exist. A test parses each line."""

OVER_HTTP = frozenset({
    "datasets", "versions", "tag", "rollback", "diff", "changes", "jobs", "templates", "extents", "usage",
    "zones add", "zones list", "zones show", "zones remove",
    "ingest", "update", "sync", "refresh", "describe", "publish", "unpublish", "derive", "recipes", "delete", "restore",
    "search", "show", "history", "cat", "get",
})  # fmt: skip
"""The commands that ``--url`` runs at a service."""

_RECORDS = "the records of a catalog are changed in its folder; at a service, search, show, history, cat and get read them"
_CARE = "it looks after the files of an instance, on the machine that has them"
_FILES = "it makes or serves an instance on this machine"
_LISTS = "it reads and completes a list of sources next to the instance"
_KEYS = "keys are made on the machine of the instance, so that no key can make others"
_HOOKS = "webhooks are settings of the instance; an admin key reads them at /webhooks"

HERE_ONLY: Mapping[str, str] = {
    **dict.fromkeys(("demo", "init", "serve", "worker"), _FILES),
    **dict.fromkeys(("apply", "lock"), _LISTS),
    "push": "it sends datasets of a folder to another service, which --to names",
    "pull": "it brings datasets of another service into a folder; --from names the service",
    **dict.fromkeys(
        (
            "export stac", "export static", "export zarr", "export ro-crate", "export intake", "export urls", "export openlineage",
            "export records",
        ),
        "it writes what a folder has; a service gives the same at /stac, /datasets and /zarr",
    ),
    **dict.fromkeys(
        (
            "add", "import", "run", "edit", "replace", "lineage", "fields",
            "extract-metadata", "validate", "schema list", "schema show", "schema export", "schema import", "fetch", "drop", "view",
            "list", "detach", "purge",
        ),
        _RECORDS,
    ),
    "path": "a service does not say where its files are; cubeport get copies one from there",
    **dict.fromkeys(("keys add", "keys list", "keys revoke"), _KEYS),
    **dict.fromkeys(("webhooks list", "webhooks test"), _HOOKS),
    **dict.fromkeys(
        (
            "check-config", "info", "doctor", "fsck", "verify", "recover", "gc", "logs", "operations", "profiles", "plugins",
            "convert", "migrate",
        ),
        _CARE,
    ),
}  # fmt: skip
"""Why each of the other commands works in a folder only."""


def refuse_elsewhere(name: str) -> None:
    """Refuse a command that does not work at a service. Raises Usage with the reason."""
    if name not in OVER_HTTP:
        reason = HERE_ONLY.get(name, "it is a command of a plugin")
        raise Usage(f"cubeport {name} does not take --url: {reason}.", next_step=f"cubeport {name} --instance DIR …")


_SHOWN_AS = {"str": "TEXT", "int": "N", "float": "NUMBER", "Path": "PATH", "list": "TEXT"}


def add_examples(name: str, command: Any) -> None:
    """Add the examples to a command, and the line about global flags, which are not in its list of options."""
    lines = [f"  {each}" for each in EXAMPLES.get(name, ())]
    examples = "\b\nExamples:\n" + "\n".join(lines) + "\n\n" if lines else ""
    command.epilog = examples + "Every command also takes --instance, --json, --quiet and the other options of cubeport --help."


def shown_in_words(params: Sequence[Any]) -> None:
    """Give values plain names: ``--title TEXT`` and ``FILE...``, not the names of Python types."""
    for param in params:
        if param.param_type_name == "argument":
            param.metavar = param.display_name_raw.strip("[].…")
            name = param.metavar if param.required else f"[{param.metavar}]"
            piece = f"{name}..." if param.nargs != 1 else name
            param.get_usage_pieces = lambda _, piece=piece: [piece]
            param.display_type_rich = lambda **_: None
        if param.param_type_name != "option" or param.metavar is not None or param.is_flag or param.count:
            continue
        if param.type_descriptor.is_choice:
            param.metavar = "|".join(str(each) for each in param.type_descriptor.choices)
            continue
        kind = str(param.bare_type()).partition("[")[0]
        if kind in _SHOWN_AS:
            param.metavar = _SHOWN_AS[kind]


def hidden(param: Any) -> Any:
    """Return the same option, accepted by the parser but not listed."""
    twin = copy.copy(param)
    twin.hidden = True
    return twin


def write_groups(group: Any, ctx: Any, formatter: Any) -> None:
    """Write the commands of the root, grouped by task."""
    left = dict.fromkeys(group.list_commands(ctx))
    sections = [(title, [name for name in names if name in left]) for title, names in GROUPS.items()]
    grouped = {name for _, names in sections for name in names}
    sections.append(("More", [name for name in left if name not in grouped]))
    for title, names in sections:
        rows = [(name, sentence(group.commands.help(name))) for name in names]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows, col_max=18)


def sentence(help: str) -> str:
    """Return the first sentence of a command's help."""
    text = " ".join(help.split())
    end = min((at for mark in (". ", "; ", ": ") if (at := text.find(mark)) > 0), default=len(text))
    return text[:end].rstrip(".")
