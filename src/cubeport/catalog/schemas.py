"""Metadata schemas. They are registered once and stored as JSON Schema in the catalog, so that all processes validate in the same
way.

A schema describes only ``metadata``; the model always checks the record's own fields. If a schema was registered as a Pydantic
class and the class is available, the class validates too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from cubeport.catalog.disk.durable import make_folders, store_errors, sync_folder, write_beside
from cubeport.catalog.forms.canonical import check_name, dumps, json_value
from cubeport.catalog.models import Artifact, CatalogRecord, Lineage, Locator, Operation
from cubeport.catalog.validator import unknown_names, validator_of, violations
from cubeport.errors import CorruptCatalog, InvalidRequest, NamespaceTaken, Problem, SchemaExists, SchemaInvalid, UnknownSchema

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as SchemaViolation

Policy = Literal["off", "warn", "strict"]
"""``off``: not validated; ``warn``: stored with a warning and logged (the default of adding); ``strict``: refused."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Issue:
    """One violation: the place in the record, the problem, the rule, and the next step."""

    path: str
    message: str
    code: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """All violations of a record, not only the first. ``errors`` make it invalid."""

    valid: bool
    warnings: tuple[Issue, ...] = ()
    errors: tuple[Issue, ...] = ()
    schema_name: str | None = None
    schema_version: str | None = None

    def lines(self) -> list[str]:
        """Return one readable line for each issue."""
        return [f"{issue.path}: {issue.message}" for issue in (*self.errors, *self.warnings)]


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one schema: ``document`` is its JSON Schema (2020-12)."""

    name: str
    version: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KindPolicy:
    """The settings of a kind in ``catalog.yaml``: the default schema, the policy, and fields that each record must have."""

    schema: str | None = None
    policy: Policy | None = None
    required: tuple[str, ...] = ()


@dataclass(slots=True)
class Schemas:
    """The schemas of one catalog, and how strictly they are enforced."""

    folder: Path
    """``.cubeport/schemas``: ``<name>/<version>.json``."""
    policy: Policy = "warn"
    kinds: Mapping[str, KindPolicy] = field(default_factory=dict)
    _classes: dict[tuple[str, str], type[BaseModel]] = field(default_factory=dict)
    _validators: dict[tuple[str, str], Any] = field(default_factory=dict)
    _plugins: dict[tuple[str, str], tuple[Schema, str]] = field(default_factory=dict)

    # --- registering ------------------------------------------------------------------------------------------------

    def register(self, name: str, model: type[BaseModel] | Mapping[str, Any], version: str = "1") -> Schema:
        """Store a Pydantic class or a JSON Schema as *version* of *name*. Repeating it does nothing.

        Raises
        ------
        SchemaExists
            If this version exists with other content.
        InvalidRequest
            If it is not a schema, or refers to another one. Nothing is fetched.
        """
        schema = schema_of(name, model, version)
        with store_errors(f"store the schema {name}"):
            make_folders(self.folder / name)
            created = _create(self.folder / name / f"{version}.json", dumps(schema.document, indent=True).encode() + b"\n")
        if not created and self.get(name, version).document != schema.document:
            raise SchemaExists(
                f"Schema {name} has a version {version} with other content.", next_step=f"cubeport schema show {name} {version}"
            )
        if isinstance(model, type):
            self._classes[name, version] = model
        return schema

    def offer(self, name: str, model: type[BaseModel] | Mapping[str, Any], version: str = "1", *, plugin: str) -> None:
        """Register a plugin's schema while the plugin is loaded. :meth:`keep` stores it when a record uses it."""
        schema = schema_of(name, model, version)
        former = self._plugins.get((name, version))
        if former is not None and former != (schema, plugin):
            raise NamespaceTaken(f"Schema {name} {version} is already provided by {former[1]}, so {plugin} cannot provide it.")
        self._plugins[name, version] = schema, plugin
        if isinstance(model, type):
            self._classes[name, version] = model

    def keep(self, name: str, version: str) -> None:
        """Store a plugin's schema that a record uses, so that the record can be validated without the plugin."""
        if offered := self._plugins.get((name, version)):
            self.register(name, offered[0].document, version)

    # --- reading ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Schema]:
        """Yield all versions of all schemas by name, the oldest first."""
        for name in self.names():
            for version in self.versions(name):
                yield self.get(name, version)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        stored = {p.name for p in self.folder.iterdir() if p.is_dir()} if self.folder.is_dir() else set()
        return sorted(stored | {name for name, _ in self._plugins})

    def versions(self, name: str) -> list[str]:
        """Return the versions of *name*, the newest last. Numbers in versions are compared as numbers."""
        found = {p.stem for p in (self.folder / name).glob("*.json")} if _is_name(name) else set()
        return sorted(found | {v for n, v in self._plugins if n == name}, key=_natural)

    def get(self, name: str, version: str | None = None) -> Schema:
        """Return the version, or by default the newest. Raises UnknownSchema with similar names."""
        versions = self.versions(name)
        if not versions:
            near = get_close_matches(name, self.names(), 1)
            raise UnknownSchema(
                f"There is no schema {name}" + (f"; do you mean {near[0]}?" if near else "."),
                next_step="cubeport schema list" if near else f"cubeport schema import {name} FILE",
            )
        version = version or versions[-1]
        if version not in versions:
            raise UnknownSchema(
                f"Schema {name} has no version {version}; it has {', '.join(versions)}.", next_step="cubeport schema list"
            )
        path = self.folder / name / f"{version}.json"
        if not path.is_file():
            return self._plugins[name, version][0]
        try:
            document = json.loads(path.read_text("utf-8"))
            if not isinstance(document, dict):
                raise ValueError("not an object")
        except ValueError as exc:
            raise CorruptCatalog(f"The stored schema {name} {version} cannot be read: {exc}", next_step="cubeport fsck") from exc
        return Schema(name, version, document)

    # --- validating -------------------------------------------------------------------------------------------------

    def settle(self, record: CatalogRecord) -> CatalogRecord:
        """Return *record* with its schema and version: its own, otherwise that of its kind, with the newest version by default.

        Raises
        ------
        UnknownSchema
            With any policy.
        """
        name = record.schema_name or self.kinds.get(record.kind, KindPolicy()).schema
        if name is None:
            return record
        version = record.schema_version
        if record.schema_name is None:
            name, _, version = name.partition("@")
        schema = self.get(name, version or None)
        return record.replace(schema_name=schema.name, schema_version=schema.version)

    def policy_of(self, record: CatalogRecord, query: Policy | None = None) -> Policy:
        """Return the policy for a record: the caller's, otherwise that of the kind, otherwise that of the catalog."""
        return query or self.kinds.get(record.kind, KindPolicy()).policy or self.policy

    def validate(self, record: CatalogRecord) -> ValidationResult:
        """Return the fields that *record* lacks for its kind, and all violations against its schema, if it has one."""
        record = self.settle(record)
        errors = self._missing(record)
        if record.schema_name is not None and record.schema_version is not None:
            found = self._issues(self.get(record.schema_name, record.schema_version), record.metadata)
            errors += [each for each in found if (each.path, each.code) not in {(other.path, other.code) for other in errors}]
        return ValidationResult(not errors, (), tuple(errors), record.schema_name, record.schema_version)

    def _missing(self, record: CatalogRecord) -> list[Issue]:
        required = self.kinds.get(record.kind, KindPolicy()).required
        if not required:
            return []
        from cubeport.catalog.query import leaves

        there = [path for path, value in leaves(record.to_mapping()) if value != ""]
        absent = [name for name in required if not any(path == name or path.startswith(f"{name}.") for path in there)]
        return [Issue(name, "is missing", "required", _HINTS["required"]) for name in absent]

    def check(self, record: CatalogRecord, *, policy: Policy | None = None) -> ValidationResult:
        """Return the result under the policy of the record: ``warn`` turns errors into warnings, and ``off`` validates nothing.

        Raises
        ------
        SchemaInvalid
            Under ``strict``, with all issues.
        """
        self.check_policy(policy)
        record = self.settle(record)
        holds = self.policy_of(record, policy)
        if holds == "off":
            return ValidationResult(True, (), (), record.schema_name, record.schema_version)
        result = self.validate(record)
        if result.valid:
            return result
        if holds == "warn":
            return ValidationResult(True, result.errors, (), result.schema_name, result.schema_version)
        raise invalid(result)

    @staticmethod
    def check_policy(policy: str | None) -> None:
        """Raise InvalidRequest unless it is ``None`` or a policy."""
        if policy is not None and policy not in get_args(Policy):
            raise InvalidRequest(f"A policy is one of {', '.join(get_args(Policy))}, not {policy[:40]!r}.")

    def concern(self, kind: str, schema_name: str | None) -> bool:
        """Return whether :meth:`check` can find anything in a record of this kind with this schema."""
        return schema_name is not None or kind in self.kinds

    def _issues(self, schema: Schema, metadata: Mapping[str, Any]) -> list[Issue]:
        key = schema.name, schema.version
        if key not in self._validators:
            self._validators[key] = validator_of(schema.document)
        found = sorted(map(_issue, violations(self._validators[key], metadata)), key=lambda issue: issue.path)
        if not found and key in self._classes:
            try:
                self._classes[key].model_validate(dict(metadata))
            except ValidationError as exc:
                found = [
                    Issue(_place(each["loc"]), each["msg"], each["type"])
                    for each in exc.errors(include_input=False, include_url=False)
                ]
        return found


def invalid(result: ValidationResult) -> SchemaInvalid:
    """Return the error that ``strict`` raises for an invalid result."""
    name = (
        f"schema {result.schema_name} {result.schema_version}" if result.schema_name else "what catalog.yaml requires of its kind"
    )
    problems = [Problem(tuple(issue.path.split(".")), issue.code, issue.message) for issue in result.errors]
    step = f"cubeport schema show {result.schema_name}" if result.schema_name else "cubeport schema list"
    return SchemaInvalid(f"The metadata does not fit {name}: " + "; ".join(result.lines()), errors=problems, next_step=step)


def schema_of(name: str, model: type[BaseModel] | Mapping[str, Any], version: str) -> Schema:
    """Return the schema after checking it, its name and its version, which must be valid in file names."""
    try:
        check_name(name)
    except ValueError as exc:
        raise InvalidRequest(f"{name!r} is not a name for a schema: it {exc}") from None
    if not _VERSION.fullmatch(version):
        raise InvalidRequest(f"{version!r} is not a version: it must be 1 to 64 of letters, digits, . _ - and begin with no sign.")
    document = model.model_json_schema() if isinstance(model, type) else dict(model)
    document = {"$schema": DIALECT} | dict(json_value(document))  # type: ignore[arg-type]  # a mapping stays a mapping
    if document["$schema"].rstrip("#") != DIALECT:
        raise InvalidRequest(f"Schema {name} says that it uses {document['$schema']}; only {DIALECT} is understood.")
    validator_of(document)
    return Schema(name, version, document)


_HINTS: Mapping[str, str] = {
    "required": "add it",
    "additionalProperties": "remove it, or add it to the schema",
    "unevaluatedProperties": "remove it, or add it to the schema",
}


def _issue(error: SchemaViolation) -> Issue:
    """Return the issue with our own message. The library's message repeats the value, which can be long or private."""
    rule, path = str(error.validator), list(error.absolute_path)
    wanted: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    match rule:
        case "type":
            message = f"must be {' or '.join([wanted] if isinstance(wanted, str) else wanted)}"
        case "required":
            # The library yields one error for each missing key, and only its message contains the key.
            path.append(next(name for name in wanted if error.message.startswith(repr(name))))
            message = "is missing"
        case "additionalProperties" | "unevaluatedProperties":
            message = "has keys that are not in the schema: " + ", ".join(sorted(unknown_names(instance, schema)))
        case "enum":
            message = f"must be one of {', '.join(dumps(each) for each in wanted)}"
        case "const":
            message = f"must be {dumps(wanted)}"
        case "pattern" | "format":
            message = f"must have the {rule} {wanted}"
        case "anyOf" | "oneOf" | "allOf" | "not" | "if" | "then" | "else" | "contains":
            message = f"does not fit {rule}"
        case "False" | "None":
            message = "is not allowed"
        case _:
            message = f"does not fit {rule}: {dumps(wanted)}"
    return Issue(_place(path), message, rule, _HINTS.get(rule))


def _place(path: Sequence[Any]) -> str:
    from cubeport.catalog.terms import join_field

    return join_field(("metadata", *map(str, path)))


def _create(path: Path, data: bytes) -> bool:
    """Write a complete new file durably. Return False if it exists already."""
    temporary = write_beside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync_folder(path.parent)
    return True


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _natural(version: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", version) if part]


def models_schema() -> dict[str, Any]:
    """Return the JSON Schemas of the catalog's own documents (``schema export --models``)."""
    adapters = {cls.__name__: TypeAdapter(cls) for cls in (CatalogRecord, Artifact, Lineage, Operation)}
    adapters["Locator"] = TypeAdapter(Locator)
    return {name: {"$schema": DIALECT} | adapter.json_schema() for name, adapter in adapters.items()}
