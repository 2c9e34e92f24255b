"""Every example in the API's description is a request that works, on a server with data: those that read values too."""

from __future__ import annotations

import re

import pytest

from .conftest import Server

pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_example_that_reads_values_works_as_it_stands(families: Server) -> None:
    tried: set[str] = set()
    for path, operations in families.json("/openapi.json")["paths"].items():
        parameters = operations.get("get", {}).get("parameters", ())
        if "get" not in operations or not path.startswith(
            ("/ogcapi", "/wms", "/wmts", "/datasets/{dataset_id}/download", "/datasets/{dataset_id}/legend")
        ):
            continue
        missing = [each["name"] for each in parameters if each["required"] and "example" not in each]
        if missing in (["location_id"], ["job_id"]):
            continue  # this instance has no area there, and no job
        assert not missing, (path, missing)
        values = {each["name"]: each["example"] for each in parameters if "example" in each}
        query = {each["name"]: values[each["name"]] for each in parameters if each["in"] == "query" and each["name"] in values}
        answer = families.get(re.sub(r"\{(\w+)\}", lambda found, values=values: str(values[found[1]]), path), **query)
        assert answer.status_code == 200, (path, query, answer.text)
        tried.add(path)
    assert {f"/ogcapi/collections/{{collection_id}}/{each}" for each in ("trajectory", "corridor", "radius", "map")} <= tried
    assert "/ogcapi/processes/{process_id}" in tried
    assert len(tried) > 30
