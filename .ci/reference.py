"""The reference pages, made from the code when the site is built, so that they cannot differ from it.

A page says where with a comment, ``<!-- reference: errors -->``. mkdocs calls :func:`on_page_markdown` for each page;
``python .ci/reference.py errors`` prints one reference.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

MARK = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with each reference in its place: called by mkdocs."""
    return MARK.sub(lambda found: REFERENCES[found[1]](), markdown)


def errors() -> str:
    """Return the table of the kinds of errors."""
    from cubeport import errors as tree
    from cubeport.cli._output import EXIT_CODES
    from cubeport.server.problems import status_of

    rows = ["| kind | meaning | HTTP | exit code | class |", "|---|---|--:|--:|---|"]
    for each in tree.kinds():
        code = next(EXIT_CODES[cls] for cls in each.__mro__ if cls in EXIT_CODES)
        rows.append(f"| `{each.kind}` | {each.title()} | {status_of(each)} | {code} | `{each.__name__}` |")
    return "\n".join(rows)


def http() -> str:
    """Return every route with its parameters, statuses and scope."""
    from cubeport.server.auth import scope_of

    lines = []
    for path, operations in openapi()["paths"].items():
        for method, operation in operations.items():
            scope = scope_of(method.upper(), path)
            lines += ["", f"### `{method.upper()} {path}`", "", f"{operation['summary']}. Scope: `{scope}`.", ""]
            parameters = [each for each in operation.get("parameters", ()) if each["in"] in ("path", "query")]
            if parameters:
                lines += ["| parameter | in | type | meaning |", "|---|---|---|---|"]
                lines += [
                    f"| `{each['name']}` | {each['in']}{', required' if each['required'] and each['in'] == 'query' else ''} "
                    f"| {_type(each['schema'])} | {_cell(each.get('description', ''))} |"
                    for each in parameters
                ]
                lines.append("")
            lines += _body(operation)
            lines.append("Statuses: " + ", ".join(sorted(operation["responses"])) + ".")
    return "\n".join(lines)


def statuses() -> str:
    """Return what each status of an answer means."""
    found: dict[str, str] = {}
    for operations in openapi()["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                found.setdefault(status, answer["description"])
    found["200"] = "The answer"
    return "\n".join(["| status | meaning |", "|--:|---|", *(f"| {each} | {found[each]} |" for each in sorted(found))])


def cli() -> str:
    """Return every command with its arguments, options and examples."""
    from cubeport.cli import _app
    from cubeport.cli._help import EXAMPLES
    from cubeport.main.command import wiring

    lines = []
    for name, command in _commands(_app.build(wiring())):
        lines += ["", f"### `cubeport {name}`", "", _cell(command.help or ""), ""]
        rows = [_option(each) for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
        if rows:
            lines += ["| argument or option | meaning |", "|---|---|", *rows, ""]
        if name in EXAMPLES:
            lines += ["```console", *(f"$ {each}" for each in EXAMPLES[name]), "```"]
    return "\n".join(lines)


def python() -> str:
    """Return the public names of Python with their signatures and docstrings."""
    import cubeport
    from cubeport.client.dataset import Dataset, Selection
    from cubeport.client.port import Port
    from cubeport.service.service import Service

    lines: list[str] = []
    for cls in (cubeport.Catalog, Port, Dataset, Selection, Service, cubeport.UnitOfWork):
        lines += _documented(cls, f"{cls.__name__}", 3)
        for name, member in inspect.getmembers(cls):
            if not name.startswith("_") and (callable(member) or isinstance(member, property)) and inspect.getdoc(member):
                lines += _documented(member, f"{cls.__name__}.{name}", 4)
    shown = {"Catalog", "UnitOfWork"}
    for name in sorted(set(cubeport.__all__) - shown):
        lines += _documented(getattr(cubeport, name), f"cubeport.{name}", 3)
    return "\n".join(lines)


REFERENCES: dict[str, Callable[[], str]] = {"errors": errors, "statuses": statuses, "http": http, "cli": cli, "python": python}


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of a new instance."""
    from cubeport.main import prepare
    from cubeport.main.catalog import Catalog
    from cubeport.main.service import _app_parts, children_of, service_of
    from cubeport.server.app import App
    from cubeport.server.bodies import SCHEMAS
    from cubeport.server.openapi import document
    from cubeport.settings import load

    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), "sqlite")
        settings = load(folder)
        children = children_of(settings)
        with service_of(settings, Catalog.open(folder), children) as service:
            app = App(_app_parts(settings, service, children))
            return document(app.framework, SCHEMAS, public_url="http://127.0.0.1:8000", limits={})


def _body(operation: dict[str, Any]) -> list[str]:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    model = openapi()["components"]["schemas"].get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    needed = ", required"
    rows = [
        f"| `{name}`{needed if name in model.get('required', ()) else ''} | {_type(each)} | {_cell(each.get('description', ''))} |"
        for name, each in model.get("properties", {}).items()
    ]
    return ["| member of the body | type | meaning |", "|---|---|---|", *rows, ""] if rows else []


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    found = [_type(each) for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if found:
        return " or ".join(dict.fromkeys(found))
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", ""))


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        elif not command.hidden:
            yield f"{above}{name}", command


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = _cell(str(parameter.metavar or parameter.name)).strip("[].").upper()
        return f"| `{name}`{'' if parameter.required else ', optional'} | {_cell(getattr(parameter, 'help', None) or '')} |"
    names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {_cell(parameter.help or '')} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _documented(thing: Any, name: str, level: int) -> list[str]:
    text = inspect.getdoc(thing) or ""
    lines = ["", f"{'#' * level} `{name}`", ""]
    if not isinstance(thing, property) and not (inspect.isclass(thing) and issubclass(thing, enum.Enum)):
        try:
            signature = str(inspect.signature(thing)).replace("'", "")
        except (TypeError, ValueError):
            signature = ""
        if signature:
            lines += ["```python", f"{name.rpartition('.')[2]}{signature}", "```", ""]
    return [*lines, *_numpydoc(text)]


def _numpydoc(text: str) -> list[str]:
    """Return a docstring as Markdown: sections become bold words, their entries lists."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    text = re.sub(r"::\n\n((?:(?: {4}.*)?\n)+(?: {4}.*)?)", lambda m: ":\n\n```python\n" + inspect.cleandoc(m[1]) + "\n```\n", text)
    lines: list[str] = []
    section = False
    source = text.splitlines()
    for number, line in enumerate(source):
        following = source[number + 1] if number + 1 < len(source) else ""
        if following and set(following) == {"-"} and line.strip():
            lines += [f"**{line.strip()}**", ""]
            section = True
        elif line.strip() and set(line.strip()) == {"-"}:
            continue
        elif section and line and not line.startswith(" "):
            lines.append(f"- `{line.strip()}`")
        elif section and line.strip():
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return lines


if __name__ == "__main__":
    sys.stdout.write(REFERENCES[sys.argv[1]]() + "\n")
