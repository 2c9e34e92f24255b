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


def test_a_document_that_can_be_a_page_says_so(families: Server) -> None:
    pages = 0
    for path, operations in families.json("/openapi.json")["paths"].items():
        parameters = {each["name"]: each for each in operations.get("get", {}).get("parameters", ())}
        forms = str(parameters.get("f", {}).get("schema"))
        needed = [name for name, each in parameters.items() if each["in"] == "path"]
        if path.endswith("/plot"):
            continue  # it needs a place
        if "'html'" not in forms or {"location_id", "job_id", "zone_set_id"} & set(needed):
            continue
        address = re.sub(r"\{(\w+)\}", lambda found, of=parameters: str(of[found[1]]["example"]), path)
        query = {name: each["example"] for name, each in parameters.items() if each["in"] == "query" and "example" in each}
        answer = families.get(address, **{**query, "f": "html"})
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-type"].startswith("text/html"), path
        assert "text/html" in operations["get"]["responses"]["200"]["content"], path
        pages += 1
    assert pages > 10
