"""Records out as lines and in again: equal bytes, all or none."""

from __future__ import annotations

import io

import pytest

import cubeport
from cubeport.catalog.models import Artifact
from cubeport.catalog.ndjson import Imported, export_lines, read_records
from cubeport.catalog.testing.generated import every_locator, sample
from cubeport.errors import InvalidRequest, KeyExists, RecordExists


@pytest.fixture
def records():
    return [
        sample(1, key="k", artifacts=[Artifact(locator=each) for each in every_locator("a")], metadata={"n": [1.0, "é\u2028x"]}),
        sample(2, status="deleted", deleted_from="active", version=7),
    ]


def test_lines_come_back_as_equal_records(records) -> None:
    text = "".join(export_lines(records))
    assert text.count("\n") == 2
    assert list(read_records(text)) == records
    assert list(read_records(io.StringIO(text, newline="\n"))) == records


def test_what_show_prints_is_read_too(records) -> None:
    first, second = records
    text = first.to_json(indent=True) + "\n\n" + second.to_json() + "\n" + first.to_json(indent=True)
    assert list(read_records(io.StringIO(text, newline="\n"))) == [first, second, first]


@pytest.mark.parametrize(
    ("text", "line"),
    [('\n{"a"\n', 2), ("[1]\n", 1), ('{\n  "a": 1\n', 1), ("x", 1), ('{"kind": "UPPER"}', 1)],
)
def test_what_is_no_record_names_its_line(text: str, line: int) -> None:
    with pytest.raises(InvalidRequest, match=f"Line {line}"):
        list(read_records(io.StringIO(text)))


def test_importing_is_all_or_none(records, tmp_path) -> None:
    with cubeport.Catalog.create(tmp_path) as catalog:
        catalog.add(key="k")
        with pytest.raises(KeyExists):
            catalog.import_records(export_lines(records[::-1]))
        assert catalog.count(statuses=None) == 1


def test_importing_keeps_ids_versions_and_statuses_and_can_be_repeated(records, tmp_path) -> None:
    with cubeport.Catalog.create(tmp_path) as catalog:
        assert catalog.import_records(export_lines(records)) == Imported(2, 0)
        assert sorted(catalog.export_lines()) == sorted(export_lines(records))
        assert (catalog.operations()[0].operation_type, catalog.generation()) == ("import", 1)
        with pytest.raises(RecordExists):
            catalog.import_records(export_lines(records))
        extra = sample(3)
        assert catalog.import_records(export_lines([*records, extra]), on_exists="skip") == Imported(1, 2)
        assert catalog.get(extra.id) == extra
