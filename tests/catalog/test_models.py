"""Documents: equal values and equal bytes after any round trip, and what no document may say."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.catalog import models
from cubeport.catalog.forms.canonical import dumps, is_id, json_value, new_id, timestamp
from cubeport.catalog.models import (
    Artifact,
    BundleMemberLocator,
    CatalogRecord,
    ExternalURILocator,
    FSSpecLocator,
    InlineLocator,
    Lineage,
    LocalPathLocator,
    OpaqueLocator,
    Operation,
    PlannedPathLocator,
    TimeSpan,
    UnknownLocator,
    normalise_locator,
    record_from_json,
    storable,
)
from cubeport.catalog.testing.generated import every_locator, sample
from cubeport.errors import CubeportError, InvalidRequest, NewerModel

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)


def sayable(value: Any) -> bool:
    """Tell whether JSON of ours can say the value: no U+0000, no lone surrogate."""
    text = json.dumps(value)
    return "\\u0000" not in text and "\\ud" not in text.lower()


@given(st.dictionaries(st.text(min_size=1, max_size=5), _JSON, max_size=4).filter(sayable))
def test_metadata_survive_any_round_trip(metadata: dict[str, Any]) -> None:
    record = CatalogRecord(metadata=metadata)
    assert record.metadata == metadata
    text = record.to_json()
    for again in (
        CatalogRecord.from_mapping(record.to_mapping()),
        CatalogRecord.from_mapping(json.loads(text)),
        record_from_json(text),
    ):
        assert again == record
        assert again.to_json() == text


def test_every_locator_survives() -> None:
    for locator in every_locator("a"):
        artifact = Artifact(locator=locator, origin=locator)
        again = Artifact.from_mapping(json.loads(artifact.to_json()))
        assert again == artifact
        assert type(again.locator) is type(locator)
        assert again.to_json() == artifact.to_json()


def test_an_unknown_locator_keeps_every_field() -> None:
    document = {"kind": "hologram", "plate": [1, {"b": None}], "z": 1.5}
    locator = Artifact(locator=document).locator
    assert isinstance(locator, UnknownLocator)
    assert locator.to_mapping() == document


def test_keys_are_sorted_and_instants_have_six_decimals_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    record = CatalogRecord(metadata={"b": 1, "a": {"d": 1, "c": 2}}, created_at=datetime(2020, 1, 1, 1, tzinfo=east))
    document = json.loads(record.to_json())
    assert list(document) == sorted(document)
    assert list(document["metadata"]["a"]) == ["c", "d"]
    assert document["created_at"] == "2019-12-31T23:00:00.000000Z"
    assert timestamp(datetime(1, 2, 3, tzinfo=UTC)) == "0001-02-03T00:00:00.000000Z"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "xyz"},
        {"id": "A" * 32},
        {"kind": "Upper"},
        {"kind": ""},
        {"key": ""},
        {"key": "a\nb"},
        {"key": "x" * 513},
        {"tags": ["a", "a"]},
        {"tags": ["x" * 129]},
        {"metadata": {"": 1}},
        {"metadata": {"a": math.nan}},
        {"metadata": {"a": math.inf}},
        {"metadata": {"a": "\0"}},
        {"metadata": {"a": b"bytes"}},
        {"metadata": {"k" * 257: 1}},
        {"metadata": []},
        {"bbox": (0, 1, 1, 0)},
        {"bbox": (0, 0, 200, 1)},
        {"bbox": (0, 0, 1)},
        {"time": {"start": None, "end": None}},
        {"time": {"start": "2020-01-02T00:00:00Z", "end": "2020-01-01T00:00:00Z"}},
        {"time": {"start": "2020-01-01T00:00:00"}},
        {"status": "gone"},
        {"version": 0},
        {"schema_name": "a"},
        {"artifacts": [{"artifact_id": "0" * 8, "locator": {"kind": "opaque"}}] * 2},
        {"unknown": 1},
    ],
)
def test_what_no_record_may_say(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CatalogRecord.from_mapping(fields)
    assert caught.value.errors


def test_all_problems_are_named_and_no_value() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CatalogRecord.from_mapping({"kind": "S3CRET", "tags": ["ok", ""], "nobody": "S3CRET"})
    assert {each.loc for each in caught.value.errors} == {("kind",), ("tags", 1), ("nobody",)}
    assert "S3CRET" not in str(caught.value.to_mapping())


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(33):
        value = {"a": value}
    with pytest.raises(InvalidRequest, match="deeper than 32"):
        CatalogRecord(metadata=value)
    CatalogRecord(metadata=value["a"]["a"])


def test_a_record_does_not_point_to_itself() -> None:
    own = new_id()
    with pytest.raises(InvalidRequest, match="itself"):
        CatalogRecord.from_mapping({"id": own, "lineage": [{"rel": "uses", "target": own}]})


def test_newer_documents_are_not_read() -> None:
    with pytest.raises(NewerModel, match="version 2"):
        CatalogRecord.from_mapping({"model_version": 2, "anything": "goes"})


def test_older_documents_are_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_LIFTS", {0: lambda document: {"title": document["name"]}})
    record = CatalogRecord.from_mapping({"model_version": 0, "name": "old"})
    assert (record.title, record.model_version) == ("old", 1)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass@example.org/a",
        "https://user@example.org/a",
        "zip::https://example.org/a",
        "https://example.org/a?token=1",
        "https://example.org/a?X-Amz-Signature=1",
        "https://example.org/a?sig=1",
    ],
)
@pytest.mark.parametrize("make", [lambda u: ExternalURILocator(uri=u), lambda u: FSSpecLocator(urlpath=u), normalise_locator])
def test_addresses_with_secrets_are_refused_without_being_repeated(url: str, make: Any) -> None:
    with pytest.raises((InvalidRequest, ValueError)) as caught:
        make(url)
    said = (
        str(caught.value.to_mapping())
        if isinstance(caught.value, CubeportError)
        else "; ".join(
            each["msg"]
            for each in caught.value.errors()  # type: ignore[attr-defined]
        )
    )
    if isinstance(caught.value, CubeportError):
        assert caught.value.kind == "secret-refused"
        assert "storage_options_env" in (caught.value.next_step or "")
    assert "pass@" not in said
    assert "token=1" not in said


@pytest.mark.parametrize("path", ["/abs", "a/../b", "a//b", "./a", "a\\b", "", "a/"])
def test_managed_paths_stay_under_their_root(path: str) -> None:
    for kind, field in (("path", "path"), ("urlpath", "urlpath"), ("planned", "path")):
        with pytest.raises(InvalidRequest):
            Artifact.from_mapping({"locator": {"kind": kind, "profile": "default", field: path}})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("/data/x.nc"), LocalPathLocator(path="/data/x.nc")),
        ("/data/x.nc", LocalPathLocator(path="/data/x.nc")),
        ("s3://bucket/x", FSSpecLocator(urlpath="s3://bucket/x")),
        ("https://example.org/x", ExternalURILocator(uri="https://example.org/x")),
        ("doi:10.1/x", ExternalURILocator(uri="doi:10.1/x")),
        ({"kind": "local_path", "value": "/x"}, LocalPathLocator(path="/x")),
        ({"kind": "fsspec_url", "value": "s3://b/x"}, FSSpecLocator(urlpath="s3://b/x")),
        ({"kind": "external_uri", "value": "urn:x"}, ExternalURILocator(uri="urn:x")),
        ({"kind": "planned_path", "value": "a/b", "profile": "p"}, PlannedPathLocator(profile="p", path="a/b")),
        ({"kind": "opaque", "value": "shelf"}, OpaqueLocator(value="shelf")),
        ({"kind": "inline", "text": "x"}, InlineLocator(text="x")),
        (
            {"kind": "bundle_member", "bundle": {"kind": "path", "path": "/x.zip"}, "member": "a"},
            BundleMemberLocator(bundle=LocalPathLocator(path="/x.zip"), member="a"),
        ),
        ({"kind": "tape", "value": 7}, UnknownLocator.model_validate({"kind": "tape", "value": 7})),
    ],
)
def test_locators_from_what_people_say(value: Any, expected: Any) -> None:
    assert normalise_locator(value) == expected
    assert normalise_locator(expected) is expected


@pytest.mark.parametrize("value", [7, None, {"value": "/x"}, {"kind": "path"}, {"kind": "inline"}])
def test_what_is_no_locator(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        normalise_locator(value)


def test_inline_bytes_are_small() -> None:
    InlineLocator(text="x" * 65536)
    for fields in ({"text": "x" * 90_000}, {"data_base64": "A" * 90_000}):
        with pytest.raises(ValueError, match="at most"):
            InlineLocator(**fields)


def test_python_values_become_plain_json() -> None:
    np = pytest.importorskip("numpy")
    said = {
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "path": PurePosixPath("a/b"),
        "float": np.float64(1.5),
        "int": np.int32(7),
        "bool": np.bool_(True),
        "tuple": (1, 2),
        "set": {"b", "a"},
    }
    assert json_value(said) == {
        "at": "2020-01-01T00:00:00.000000Z",
        "path": "a/b",
        "float": 1.5,
        "int": 7,
        "bool": True,
        "tuple": [1, 2],
        "set": ["a", "b"],
    }
    with pytest.raises(InvalidRequest, match=r"\$\.a\[1\]\.b is a object"):
        json_value({"a": [1, {"b": object()}]})
    with pytest.raises(InvalidRequest, match="finite"):
        json_value(np.float32("nan"))


def test_one_value_has_one_text() -> None:
    assert dumps({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
    assert dumps({"b": 1, "a": []}, indent=True) == '{\n  "a": [],\n  "b": 1\n}'


def test_ids_are_random() -> None:
    found = {new_id() for _ in range(1000)}
    assert all(map(is_id, found))
    assert len({each[:5] for each in found}) > 990


def test_replacing_validates() -> None:
    record = sample(1)
    assert record.replace(title="x").title == "x"
    assert record.title == "t1"
    with pytest.raises(InvalidRequest, match="unique"):
        record.replace(tags=("a", "a"))
    with pytest.raises(ValueError, match="frozen"):
        record.title = "x"  # type: ignore[misc]


def test_operations_survive() -> None:
    operation = Operation(operation_type="add", status="failed", parameters={"a": [1, None]}, error={"kind": "internal"})
    assert Operation.from_mapping(json.loads(operation.to_json())) == operation


def test_storable_is_the_canonical_text() -> None:
    record = sample(1, lineage=(Lineage(rel="uses", target="urn:x"),), time=TimeSpan(start=datetime(2020, 1, 1, tzinfo=UTC)))
    document, text = storable(record)
    assert (document, text) == (record.to_mapping(), record.to_json())
