"""What can be configured acts or is refused; what is defined is used. Nothing is accepted and then never read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from cubeport import errors
from cubeport.catalog.forms.later import Later, waiting
from cubeport.catalog.plugins import KINDS
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.templates import (
    DatasetTemplate,
    Extent,
    IngestionRules,
    LayoutRules,
    SourceBlock,
    SyncRules,
    VariableChoice,
)
from cubeport.settings import Section, Settings

SOURCE = Path(__file__).parents[1] / "src" / "cubeport"


@cache
def parsed() -> dict[str, ast.Module]:
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


def modules(*without: str) -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree in parsed().items() if name not in without)


@cache
def read_outside_the_models() -> frozenset[tuple[str, ...]]:
    """Return each ``a.b.c`` that is read anywhere but in the modules of templates and requests."""
    found = {
        chain(node)
        for _, tree in modules("service/templates.py", "service/ingestions.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    return frozenset(each[1:] if each[0] == "self" else each for each in found if each)


def chain(node: ast.expr) -> tuple[str, ...]:
    """Return the names of ``a.b.c``."""
    if isinstance(node, ast.Attribute):
        return (*chain(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ()


def read_of(names: dict[str, tuple[str, ...]], tree: ast.AST) -> set[tuple[str, ...]]:
    """Return what is read of the values called *names*, also where a part was given a short name first."""
    short = dict(names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found = chain(node.value)
            if found and found[0] in names:
                short[node.targets[0].id] = (*names[found[0]], *found[1:])
    found = {chain(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {(*short[each[0]], *each[1:]) for each in found if each and each[0] in short}


def leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield every setting and whether it waits."""
    waits = set(waiting(model))
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, (*above, name))
        else:
            yield (*above, name), name in waits


def test_each_setting_is_read_by_something_or_refused() -> None:
    read = {each for _, tree in modules("settings.py") for each in read_of({"settings": ()}, tree)}
    unread = {name for name, waits in leaves(Settings) if not waits and name not in read}
    assert not unread, f"nothing reads {unread}: mark them with Later()"
    lifted = {name for name, waits in leaves(Settings) if waits and name in read}
    assert not lifted, f"{lifted} are read and still refused: remove their Later()"


def test_a_default_that_is_written_twice_is_that_of_the_settings() -> None:
    from cubeport.adapters.sandbox import limits as sandbox
    from cubeport.server.edge import Edge
    from cubeport.server.parts import Parts
    from cubeport.service import plans

    defaults = {".".join(name): value for name, value in _defaults(Settings)}
    twice = {f"limits.{each.name}": each.default for each in fields(plans.AnswerLimits) if f"limits.{each.name}" in defaults}
    gate = {each.name: each.default for each in fields(sandbox.SourceLimits)}
    twice |= {setting: gate[name] for name, setting in sandbox.SETTINGS.items()}
    parts = {each.name: each.default for each in fields(Parts)}
    twice |= {"ingest.wait_s": parts["wait_s"], "cors.origins": parts["cors_origins"], "title": parts["title"]}
    twice |= {"zarr.offload": parts["offload"], "zarr.offload_prefix": parts["offload_prefix"]}
    twice |= {"server.max_connections": Edge.MAX_CONNECTIONS}
    assert len(twice) >= 14
    assert {name: defaults[name] for name in twice} == twice


def _defaults(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, field in model.model_fields.items():
        if isinstance(field.default, Section):
            yield from _defaults(type(field.default), (*above, name))
        else:
            yield (*above, name), field.default


def test_the_documentation_marks_the_settings_that_are_refused() -> None:
    page = (SOURCE.parents[1] / "docs" / "configuration.md").read_text()
    marked = set(re.findall(r"^\| `([a-z_.]+)` \|[^|]*\| \*not in this version\*", page, re.MULTILINE))
    assert marked == {".".join(name) for name, waits in leaves(Settings) if waits}


def test_the_documentation_has_every_field_of_a_template() -> None:
    import yaml

    page = (SOURCE.parents[1] / "docs" / "configuration.md").read_text().partition("## Dataset templates")[2]
    fields, source = page.partition("| `source` | meaning |")[::2]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", fields, re.MULTILINE)) == set(DatasetTemplate.model_fields)
    assert set(re.findall(r"^\| `([a-z_]+)` \|", source.partition("## ")[0], re.MULTILINE)) == set(SourceBlock.model_fields)
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert DatasetTemplate.model_validate(example).publish is False


def test_each_error_is_raised_by_something() -> None:
    groups = {cls.__name__ for cls in errors.kinds() if cls.__subclasses__()}
    used: set[str] = set()
    # The tables of the edges name every class; a name in them, in an import or in `except` raises nothing.
    for _, tree in modules("errors.py", "server/problems.py", "cli/_output.py"):
        caught = {
            inner for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type for inner in ast.walk(node.type)
        }
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in caught}
    assert {cls.__name__ for cls in errors.kinds()} - groups - used == set()


def test_each_flag_of_a_command_is_read() -> None:
    unread = set()
    for name, tree in modules():
        if not name.startswith("cli/"):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or not (args := node.args.args) or args[0].arg != "ctx":
                continue
            if name == "cli/_app.py":  # its flags are taken by a callback
                continue
            used = {inner.id for statement in node.body for inner in ast.walk(statement) if isinstance(inner, ast.Name)}
            unread |= {f"{name}: {node.name}: {arg.arg}" for arg in args if arg.arg not in used}
    assert not unread


def test_each_plugin_kind_is_asked_for_or_refused() -> None:
    asked = {
        node.args[0].value
        for _, tree in modules("catalog/plugins.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("given", "values", "called")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    } | {"hook"}  # join_hooks of catalog/plugins.py asks for them
    assert set(KINDS) - asked == set()


FIELDS: dict[type[BaseModel], tuple[str, ...]] = {
    # What the values of each model are called where they are read.
    IngestionRequest: ("request", "ingestion"),  # an ingestion gives attributes and append_dim of both
    FileOptions: ("options", "ingestion"),
    DatasetTemplate: ("template", "fields", "wanted.template", "wanted.fields"),
    IngestionRules: ("fields.ingestion", "template.ingestion", "wanted.fields.ingestion"),
    LayoutRules: ("fields.layout", "template.layout"),
    SyncRules: ("template.sync", "sync"),
    SourceBlock: ("block", "source", "template.source", "wanted.template.source", "request.source"),
    VariableChoice: ("v", "each", "choice"),
    Extent: ("extent", "wanted.extent", "e"),
}
DUMPED = {
    # Whole documents are made of these: a dump of the model is what shows them.
    Extent: {"name", "description", "geometry", "extent_id", "bbox"},
    DatasetTemplate: {"extents", "sync"},
}


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_each_field_of_templates_and_requests_is_read_or_refused(model: type[BaseModel]) -> None:
    read = read_outside_the_models()
    endings = [tuple(name.split(".")) for name in FIELDS[model]]
    waits = set(waiting(model))
    unread = {
        name
        for name in model.model_fields
        if name not in waits | DUMPED.get(model, set())
        and not any(each[-len(ending) - 1 :] == (*ending, name) for each in read for ending in endings)
    }
    assert not unread


CASES: list[tuple[type[BaseModel], dict[str, Any], str]] = [
    (IngestionRequest, {"dataset_id": "a", "template": {"time_label": "end"}}, "needs a period_type"),
    (DatasetTemplate, {"source": {"kind": "files", "paths": "a"}, "ingestion": {"params": {}}}, "are for a source of kind plugin"),
    (
        DatasetTemplate,
        {"source": {"kind": "plugin", "params": {"a": 1}}, "ingestion": {"params": {"a": 1}}},
        "leave one of them out",
    ),
    (SourceBlock, {"kind": "files", "paths": "a", "combine": {"dim": "time", "order": "name"}}, "leave it out"),
    (SourceBlock, {"kind": "zarr", "path": "a", "combine": {"dim": "time"}}, "combine is for a source of kind files"),
    (SourceBlock, {"kind": "files", "paths": "a", "params": {"x": 1}}, "params is for a source of kind url"),
    (SourceBlock, {"kind": "url", "template": "https://a", "asset": "b"}, "is for a source of kind stac"),
    (SourceBlock, {"kind": "plugin", "name": "a", "probe": "get"}, "is for a source of kind url"),
    (SourceBlock, {"kind": "zarr", "path": "a", "paths": ["b"]}, "is for a source of kind files"),
]


@pytest.mark.parametrize(("model", "written", "words"), CASES, ids=[next(reversed(written)) for _, written, _ in CASES])
def test_a_field_that_does_nothing_is_refused(model: type[BaseModel], written: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(written)
    assert words in str(caught.value)


def test_xarray_is_asked_for_a_reader_by_class() -> None:
    """By name it loads all that are installed, ecCodes too, which crashes a process that loads PROJ later (adr/0018)."""
    by_name = set()
    for name, tree in modules("cubes/readers.py"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (called := chain(node.func)) and called[-1] in XARRAY_OPENS:
                engine = next((each.value for each in node.keywords if each.arg == "engine"), None)
                by_class = isinstance(engine, ast.Call) and chain(engine.func) == ("reader",)
                if called[0] in ("xr", "xarray") and not by_class:
                    by_name.add(name)
    assert by_name == {
        "adapters/openers.py",  # GRIB
        "adapters/sources/grib.py",
        "client/_http.py",  # among the words that the service says
        "main/here.py",  # the same
    }


def test_what_every_child_and_every_server_loads_does_not_load_eccodes() -> None:
    code = "import sys, cubeport.adapters.gate.warm, cubeport.adapters.engines.opened; assert 'gribapi' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


XARRAY_OPENS = {"open_dataset", "open_zarr", "open_mfdataset", "open_datatree", "load_dataset", "list_engines"}
COMES_WITH = {
    # Starlette runs on it, and its limiter is part of how starlette runs threads.
    "anyio": "starlette",
    # s3fs raises its errors.
    "botocore": "s3fs",
    "markupsafe": "jinja2",
    "pandas": "xarray",
    "pydantic_core": "pydantic",
    "referencing": "jsonschema",
    "jsonschema_specifications": "jsonschema",
    # The contracts for third parties are run by their tests, which bring these.
    "pytest": "dev",
    "hypothesis": "dev",
}
NAMED = {
    "aiohttp": "fsspec takes it by name",
    "eccodes": "cfgrib takes it by name",
    "eccodeslib": "eccodes takes it by name",
    "httptools": "uvicorn takes it by name",
    "rich": "typer takes it by name",
    "s3fs": "fsspec takes it by the name of the protocol",
    "uvloop": "uvicorn takes it by name",
}
IMPORTED_AS = {"pyyaml": "yaml", "netcdf4": "netCDF4"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    lines = [*project["dependencies"], *(line for each in extras.values() for line in each)]
    declared = {re.split(r"[\[<>=;,\s]", line)[0].lower() for line in lines} - {"cubeport"}
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in declared}
    imported: set[str] = set()
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    imported -= {"cubeport", *sys.stdlib_module_names}
    assert imported - set(COMES_WITH) <= declared, "imported and not declared"
    assert declared - set(NAMED) <= imported, "declared and not imported"


def test_later_accepts_only_what_is_true_already_and_shows_it_in_the_schema() -> None:
    from typing import Annotated

    class Model(BaseModel):
        copy_: Annotated[bool, Later(True)] = True
        days: Annotated[int, Later()] = 3

    assert Model.model_validate({"copy_": True}) == Model()
    for written in ({"copy_": False}, {"days": 3}, {"days": 4}):
        with pytest.raises(ValidationError, match="is not in this version"):
            Model.model_validate(written)
    properties = Model.model_json_schema()["properties"]
    assert properties["copy_"]["enum"] == [True]
    assert properties["days"]["description"] == "Not in this version."
