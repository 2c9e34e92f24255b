from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, field_validator

from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.schemas import KindPolicy, Schemas, models_schema
from cubeport.catalog.validator import validator_of, violations
from cubeport.errors import CorruptCatalog, InvalidRequest, NamespaceTaken, SchemaExists, SchemaInvalid, TooLarge, UnknownSchema

STATION = {
    "type": "object",
    "properties": {
        "station": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "height": {"type": "number", "minimum": 0},
        "kind": {"enum": ["synop", "buoy"]},
        "where": {"$ref": "#/$defs/where"},
    },
    "required": ["station", "height"],
    "additionalProperties": False,
    "$defs": {"where": {"type": "object", "required": ["lon", "lat"]}},
}


class Station(BaseModel):
    station: str
    height: float

    @field_validator("station")
    @classmethod
    def _upper(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("must be upper case")
        return value


@pytest.fixture
def schemas(tmp_path: Path) -> Schemas:
    return Schemas(tmp_path / "schemas")


def record(metadata: dict[str, Any], name: str | None = "station", version: str | None = "1", **fields: Any) -> CatalogRecord:
    return CatalogRecord(metadata=metadata, schema_name=name, schema_version=version, **fields)


class TestRegister:
    def test_it_is_kept_as_a_file_that_another_process_validates_by(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        path = schemas.folder / "station" / "1.json"
        assert json.loads(path.read_text()) == {"$schema": "https://json-schema.org/draft/2020-12/schema"} | STATION
        other = Schemas(schemas.folder)
        assert not other.validate(record({"station": "ABC"})).valid
        assert other.validate(record({"station": "ABC", "height": 3})).valid

    def test_the_same_twice_is_nothing_and_other_content_is_refused(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        schemas.register("station", dict(reversed(list(STATION.items()))))
        with pytest.raises(SchemaExists):
            schemas.register("station", {"type": "object"})
        schemas.register("station", {"type": "object"}, "2")
        assert [(s.name, s.version) for s in schemas] == [("station", "1"), ("station", "2")]
        assert not list(schemas.folder.rglob("*.part"))

    def test_a_class_is_used_where_it_is_at_hand_and_its_schema_elsewhere(self, schemas: Schemas) -> None:
        schemas.register("station", Station)
        lower = record({"station": "abc", "height": 1})
        (issue,) = schemas.validate(lower).errors
        assert (issue.path, issue.code) == ("metadata.station", "value_error")
        assert Schemas(schemas.folder).validate(lower).valid
        (issue,) = Schemas(schemas.folder).validate(record({"station": "ABC"})).errors
        assert (issue.path, issue.message) == ("metadata.height", "is missing")

    @pytest.mark.parametrize(
        "document",
        [
            {"type": "strin"},
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            {"$ref": "https://example.org/other.json"},
            {"properties": {"a": {"$ref": "#/$defs/none"}}},
        ],
    )
    def test_what_is_no_whole_schema_is_refused_and_nothing_is_fetched(
        self, schemas: Schemas, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*args: Any) -> Any:
            raise AssertionError("the network was asked")

        monkeypatch.setattr(socket, "getaddrinfo", never)
        with pytest.raises(InvalidRequest):
            schemas.register("x", document)
        assert schemas.names() == []

    @pytest.mark.parametrize(("name", "version"), [("../x", "1"), ("X", "1"), ("x", "../1"), ("x", ""), ("x", ".hidden")])
    def test_names_and_versions_cannot_leave_the_folder(self, schemas: Schemas, name: str, version: str) -> None:
        with pytest.raises(InvalidRequest):
            schemas.register(name, STATION, version)

    def test_a_plugins_schema_is_written_down_once_it_is_used(self, schemas: Schemas) -> None:
        schemas.offer("station", STATION, plugin="mine")
        assert schemas.get("station").version == "1"
        assert not schemas.folder.exists()
        schemas.keep("station", "1")
        assert Schemas(schemas.folder).get("station").document == schemas.get("station").document
        with pytest.raises(NamespaceTaken, match="mine"):
            schemas.offer("station", {"type": "object"}, plugin="yours")


class TestGet:
    def test_the_newest_version_is_the_highest_number(self, schemas: Schemas) -> None:
        for version in ("9", "10", "2"):
            schemas.register("x", {"title": version}, version)
        assert schemas.versions("x") == ["2", "9", "10"]
        assert schemas.get("x").document["title"] == "10"

    def test_an_unknown_schema_names_near_ones(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        with pytest.raises(UnknownSchema, match="do you mean station"):
            schemas.get("sattion")
        with pytest.raises(UnknownSchema, match="has no version 3; it has 1"):
            schemas.get("station", "3")
        with pytest.raises(UnknownSchema):
            schemas.get("../schemas")

    def test_a_damaged_file_is_corrupt_not_absent(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        (schemas.folder / "station" / "1.json").write_text("{")
        with pytest.raises(CorruptCatalog):
            schemas.validate(record({}))


class TestValidate:
    def test_all_issues_come_with_their_place_and_no_value(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        result = schemas.validate(record({"station": "hunter2", "height": -1, "kind": "ship", "extra": 1, "where": {"lon": 3}}))
        assert not result.valid
        assert {(i.path, i.code) for i in result.errors} == {
            ("metadata.station", "pattern"),
            ("metadata.height", "minimum"),
            ("metadata.kind", "enum"),
            ("metadata", "additionalProperties"),
            ("metadata.where.lat", "required"),
        }
        assert not any("hunter2" in line for line in result.lines())
        assert 'metadata.kind: must be one of "synop", "buoy"' in result.lines()

    def test_each_missing_key_is_named(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        assert [i.path for i in schemas.validate(record({})).errors] == ["metadata.height", "metadata.station"]

    def test_without_a_schema_a_record_is_valid(self, schemas: Schemas) -> None:
        assert schemas.validate(record({"a": 1}, None, None)).valid

    @pytest.mark.parametrize("policy", ["off", "warn", "strict"])
    def test_an_unknown_schema_is_an_error_under_every_policy(self, schemas: Schemas, policy: Any) -> None:
        with pytest.raises(UnknownSchema):
            schemas.check(record({}), policy=policy)

    def test_the_three_policies(self, schemas: Schemas) -> None:
        schemas.register("station", STATION)
        bad = record({"station": "ABC", "height": "high"})
        assert schemas.check(bad, policy="off").warnings == ()
        warned = schemas.check(bad)
        assert (warned.valid, [i.message for i in warned.warnings]) == (True, ["must be number"])
        with pytest.raises(SchemaInvalid) as caught:
            schemas.check(bad, policy="strict")
        assert caught.value.errors[0].loc == ("metadata", "height")
        assert "high" not in caught.value.message.replace("height", "")

    def test_a_kind_has_its_schema_and_policy(self, tmp_path: Path) -> None:
        schemas = Schemas(tmp_path, kinds={"dataset": KindPolicy("station", "strict"), "run": KindPolicy("station@1", "off")})
        schemas.register("station", STATION)
        schemas.register("station", {"type": "object"}, "2")
        plain = record({"height": "x"}, None, None, kind="document")
        assert schemas.settle(plain) is plain
        assert schemas.settle(plain.replace(kind="dataset")).schema_version == "2"
        assert schemas.settle(plain.replace(kind="run")).schema_version == "1"
        assert schemas.policy_of(plain) == "warn"
        assert schemas.policy_of(plain.replace(kind="dataset")) == "strict"
        assert schemas.policy_of(plain.replace(kind="dataset"), "off") == "off"


def test_the_models_own_schemas_are_schemas_and_fit_a_record() -> None:
    documents = models_schema()
    assert set(documents) == {"CatalogRecord", "Artifact", "Lineage", "Operation", "Locator"}
    for document in documents.values():
        Draft202012Validator.check_schema(document)
    Draft202012Validator(documents["CatalogRecord"]).validate(CatalogRecord(title="x", tags=("a",)).to_mapping())


class TestBounds:
    """No schema and no metadata keep a caller waiting: ``^(a+)+$`` hung ``add``, ``{"$ref": "#"}`` made it an internal error."""

    @pytest.mark.parametrize(
        ("rule", "key"),
        [
            ({"properties": {"a": {"pattern": "^(a+)+$"}}}, None),
            ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, "a" * 40 + "!"),
            ({"patternProperties": {"^(a|a)*$": False}}, "a" * 40 + "!"),
            ({"propertyNames": {"pattern": "^(a|aa)+$"}}, "a" * 40 + "!"),
        ],
    )
    def test_a_pattern_is_matched_in_linear_time(self, schemas: Schemas, rule: dict[str, Any], key: str | None) -> None:
        schemas.register("x", rule)
        began = time.process_time()
        metadata = {"a": "a" * 100_000 + "!"} if key is None else {key: 1}
        schemas.validate(record(metadata, "x"))
        assert time.process_time() - began < 1

    @pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(?<!a)b", "(a{1000}){1000}"])
    def test_a_pattern_that_needs_more_is_refused(self, schemas: Schemas, pattern: str) -> None:
        for rule in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}, {"$defs": {"x": {"items": {"pattern": pattern}}}}):
            with pytest.raises(InvalidRequest, match="bounded"):
                schemas.register("x", rule)

    @pytest.mark.parametrize(
        "rule",
        [
            {"$ref": "#"},
            {"allOf": [{"$ref": "#"}]},
            {"properties": {"a": {"$ref": "#/properties/a"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"dependentSchemas": {"k": {"$ref": "#/$defs/a"}}}}},
        ],
    )
    def test_a_rule_without_end_is_refused(self, schemas: Schemas, rule: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest, match="without end"):
            schemas.register("x", rule)

    def test_a_tree_may_refer_to_itself(self, schemas: Schemas) -> None:
        schemas.register("tree", {"properties": {"inner": {"$ref": "#"}, "n": {"type": "integer"}}})
        assert schemas.validate(record({"inner": {"inner": {"n": 1}}}, "tree")).valid
        assert not schemas.validate(record({"inner": {"inner": {"n": "x"}}}, "tree")).valid

    def test_steps_are_counted(self, schemas: Schemas) -> None:
        doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
        schemas.register("bomb", {"$ref": "#/$defs/d0", "$defs": doubling | {"d40": {"type": "object"}}})
        began = time.process_time()
        with pytest.raises(TooLarge, match="steps") as refused:
            schemas.validate(record({}, "bomb"))
        assert time.process_time() - began < 10
        assert "--policy off" in (refused.value.next_step or "")
        assert schemas.check(record({}, "bomb"), policy="off").valid

    def test_both_ways_of_naming_the_rest_are_refused_together(self, schemas: Schemas) -> None:
        with pytest.raises(InvalidRequest, match="unevaluatedProperties"):
            schemas.register("x", {"patternProperties": {"^a": {}}, "unevaluatedProperties": False})

    def test_items_are_compared_in_linear_time_and_as_the_standard_says(self, schemas: Schemas) -> None:
        schemas.register("x", {"properties": {"a": {"uniqueItems": True}}})
        began = time.process_time()
        assert schemas.validate(record({"a": [{"n": n} for n in range(50_000)]}, "x")).valid
        assert time.process_time() - began < 5
        for same, valid in (
            ([1, 1.0], False),
            ([1, True], True),
            ([[1], [1.0]], False),
            ([{"a": 1}, {"a": 1}], False),
            ([0, False], True),
        ):
            found = schemas.validate(record({"a": same}, "x"))
            assert found.valid is valid, same
            assert Draft202012Validator({"uniqueItems": True}).is_valid(same) is valid

    def test_names_by_pattern_are_known(self, schemas: Schemas) -> None:
        schemas.register(
            "x", {"properties": {"b": {}}, "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False}
        )
        assert schemas.validate(record({"a1": 1, "b": 2}, "x")).valid
        lines = schemas.validate(record({"a1": "x", "c": 2}, "x")).lines()
        assert lines == ["metadata: has keys that are not in the schema: c", "metadata.a1: must be integer"]


@given(
    st.recursive(
        st.sampled_from([None, True, 0, 1, 1.0, "a", "ab", "b"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "ab", "c"]), inner, max_size=3),
        max_leaves=8,
    )
)
def test_the_bounded_rules_say_what_the_library_says(value: Any) -> None:
    rule = {
        "properties": {"v": {"$ref": "#/$defs/any"}},
        "$defs": {
            "any": {
                "anyOf": [{"type": ["array", "null", "boolean"]}, {"type": "string", "pattern": "^a"}, {"type": "object"}],
                "uniqueItems": True,
                "items": {"$ref": "#/$defs/any"},
                "properties": {"c": {"$ref": "#/$defs/any"}},
                "patternProperties": {"^ab": {"type": "string"}},
                "additionalProperties": {"$ref": "#/$defs/any"},
            }
        },
    }
    ours = {(tuple(each.absolute_path), each.validator) for each in violations(validator_of(rule), {"v": value})}
    theirs = {(tuple(each.absolute_path), each.validator) for each in Draft202012Validator(rule).iter_errors({"v": value})}
    assert ours == theirs
