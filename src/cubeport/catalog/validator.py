"""Validate JSON Schema (2020-12) in bounded time, for any schema and any document.

Patterns are matched by an engine that takes linear time (Rust's ``regex``, which pydantic includes). Every evaluated rule counts. A
rule that leads back to itself for the same value is refused when the schema is registered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from cubeport.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as Violation

MOST_STEPS = 500_000
"""The largest number of rules that one validation evaluates, about a second. A rule with many parts counts as many."""

_left: ContextVar[list[int]] = ContextVar("cubeport-schema-steps")


def validator_of(document: Mapping[str, Any]) -> Any:
    """Return the validator of a schema.

    Raises
    ------
    InvalidRequest
        If it is not a JSON Schema, refers to another schema (nothing is fetched) or endlessly to itself, or has a pattern that
        cannot be matched in linear time.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        raise InvalidRequest(f"This is not a JSON Schema: {'.'.join(map(str, exc.path)) or 'its root'}: {exc.message}") from None
    # A separate registry, because the library's default one would fetch the target of a $ref.
    resource = DRAFT202012.create_resource(document)
    registry = REGISTRY.with_resource("", resource)
    resolver = registry.resolver_with_root(resource)
    parts = list(_parts(document))
    targets: dict[str, Any] = {}
    for reference in {each[key] for each in parts for key in _REFERENCES if isinstance(each.get(key), str)}:
        try:
            targets[reference] = resolver.lookup(reference).contents
        except Unresolvable:
            raise InvalidRequest(
                f"The schema refers to {reference}, which is not in it; schemas must be whole, nothing is fetched."
            ) from None
    _check_ends(parts, targets)
    _check_patterns(parts)
    return _class()(document, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def violations(validator: Any, document: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield all violations. Raises TooLarge if this needs more than :data:`MOST_STEPS` steps."""
    token = _left.set([MOST_STEPS])
    try:
        yield from validator.iter_errors(dict(document))
    except RecursionError as exc:
        raise _unbounded() from exc
    finally:
        _left.reset(token)


def unknown_names(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return the names in *instance* that are neither in ``properties`` nor in ``patternProperties``."""
    matchers = [_matcher(each) for each in schema.get("patternProperties", {})]
    rest = [each for each in instance if each not in schema.get("properties", {})]
    return [each for each in rest if not any(matches(each) for matches in matchers)]


def _unbounded() -> TooLarge:
    return TooLarge(
        f"The metadata cannot be checked by their schema in {MOST_STEPS} steps",
        limit=MOST_STEPS,
        unit="steps",
        next_step="Give the record less metadata or a simpler schema, or add it with --policy off.",
    )


_REFERENCES = ("$ref", "$dynamicRef")
_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "if", "then", "else")


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def _check_ends(parts: list[Mapping[str, Any]], targets: Mapping[str, Any]) -> None:
    """Refuse rules that lead back to themselves for the same value. Raises InvalidRequest."""
    done: set[int] = set()
    for start in parts:
        # Each entry is a rule with the rules that it applies to the same value and that are not visited yet.
        path, on_path = [(start, _applied(start, targets))], {id(start)}
        if id(start) in done:
            continue
        while path:
            rule, following = path[-1]
            inner = next(following, None)
            if inner is None:
                path.pop()
                on_path.discard(id(rule))
                done.add(id(rule))
            elif id(inner) in on_path:
                raise InvalidRequest("The schema refers to itself without end: $ref leads back to the same rule at the same place.")
            elif id(inner) not in done:
                path.append((inner, _applied(inner, targets)))
                on_path.add(id(inner))


def _applied(rule: Mapping[str, Any], targets: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the rules that *rule* applies to its own value."""
    found = [targets.get(rule[key]) for key in _REFERENCES if isinstance(rule.get(key), str)]
    found += [each for key in _LISTS if isinstance(rule.get(key), list) for each in rule[key]]
    found += [rule.get(key) for key in _SINGLE]
    dependent = rule.get("dependentSchemas")
    found += dependent.values() if isinstance(dependent, Mapping) else ()
    return (each for each in found if isinstance(each, Mapping))


def _check_patterns(parts: list[Mapping[str, Any]]) -> None:
    for part in parts:
        by_pattern = part.get("patternProperties")
        if isinstance(part.get("pattern"), str):
            _matcher(part["pattern"])
        for pattern in by_pattern if isinstance(by_pattern, Mapping) else ():
            _matcher(pattern)
    if any("patternProperties" in part for part in parts) and any("unevaluatedProperties" in part for part in parts):
        # The library matches these itself, with an engine that can take exponential time.
        raise InvalidRequest("A schema cannot have both patternProperties and unevaluatedProperties; use additionalProperties.")


@lru_cache(1024)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that searches a pattern in a text. Raises InvalidRequest for look-around and back-references."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python
    except SchemaError as exc:
        why = str(exc).strip().rpartition("\n")[2].removeprefix("error: ")
        raise InvalidRequest(f"The pattern {pattern[:80]!r} cannot be matched in a time that is bounded: {why}") from None


@cache
def _class() -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    rules = dict(Draft202012Validator.VALIDATORS)
    unknown = rules["additionalProperties"]

    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if not isinstance(instance, dict):
            return ()
        return unknown(validator, value, {name: instance[name] for name in unknown_names(instance, schema)}, {})

    rules |= {"pattern": _pattern, "patternProperties": _by_pattern, "uniqueItems": _unique, "additionalProperties": additional}
    make: Any = extend
    return make(Draft202012Validator, {name: _counted(rule) for name, rule in rules.items()})


def _counted(rule: Callable[..., Any]) -> Callable[..., Any]:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _left.get()
        left[0] -= 1 + (len(value) if isinstance(value, dict | list) else 0)
        if left[0] < 0:
            raise _unbounded()
        return rule(validator, value, instance, schema)

    return check


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Violation]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not _matcher(pattern)(instance):
        yield ValidationError("does not match")


def _by_pattern(validator: Any, patterns: Mapping[str, Any], instance: Any, _: Any) -> Iterator[Violation]:
    for pattern, rule in patterns.items() if isinstance(instance, dict) else ():
        matches = _matcher(pattern)
        for name, value in instance.items():
            if matches(name):
                yield from validator.descend(value, rule, path=name, schema_path=pattern)


def _unique(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[Violation]:
    """Check ``uniqueItems`` quickly. The library compares all pairs of objects, a billion comparisons for a long list."""
    from jsonschema.exceptions import ValidationError

    if wanted and isinstance(instance, list) and len({json.dumps(_same(each)) for each in instance}) < len(instance):
        yield ValidationError("has items twice")


def _same(value: Any) -> Any:
    """Return a value whose JSON text is equal for equal values. 1 equals 1.0, but not true (JSON Schema 2020-12, 4.2.2)."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_same(each) for each in value]
        case dict():
            return {name: _same(value[name]) for name in sorted(value)}
    return value
