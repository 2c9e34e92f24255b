"""Pages of the lists of collections lead back by ``prev``, exactly as they came."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import Server

pytestmark = pytest.mark.filterwarnings("ignore")


def walk(url: str, path: str) -> None:
    """Go to the last page and back, and compare with the whole list."""

    def linked(page: dict[str, Any], rel: str) -> str | None:
        return next((each["href"] for each in page["links"] if each["rel"] == rel), None)

    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:

        def read(address: str) -> dict[str, Any]:
            answer = client.get(address)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        def ids(page: dict[str, Any]) -> list[str]:
            return [each["id"] for each in page["collections"]]

        every = ids(read(f"{path}limit=1000"))
        assert len(every) > 1
        for limit in (2,) if "filter" in path else (1, 2, 3):
            page = read(f"{path}limit={limit}")
            assert linked(page, "prev") is None
            while (following := linked(page, "next")) is not None:
                page = read(following)
            found = ids(page)
            while (before := linked(page, "prev")) is not None:
                earlier = read(before)
                assert ids(earlier)
                # The next page of the page before is what comes after it.
                on = read(str(linked(earlier, "next")))
                assert ids(on)[: len(ids(page))] == ids(page)
                page = earlier
                found = ids(page) + found
            assert found == every, limit


@pytest.mark.parametrize(
    "path",
    [
        "/stac/collections?",
        "/stac/collections?sortby=-id&",
        "/stac/collections?q=regular,packed,projected,members&",
        "/stac/collections?bbox=0,0,40,45&",
        "/stac/collections?filter=title%20LIKE%20'%25e%25'&",
        "/stac/collections?filter=id%20%3C%3E%20'projected'&sortby=-id&",
        "/ogcapi/collections?",
        "/ogcapi/collections?bbox=0,0,40,45&",
    ],
)
def test_pages_of_collections_lead_back(families: Server, path: str) -> None:
    walk(families.url, path)


def test_a_cursor_that_leads_back_is_of_its_own_list(families: Server) -> None:
    with httpx.Client(base_url=families.url, timeout=60, trust_env=False) as client:
        first = client.get("/stac/collections?limit=2").json()
        second = client.get(next(each["href"] for each in first["links"] if each["rel"] == "next")).json()
        [back] = [httpx.URL(each["href"]).params["token"] for each in second["links"] if each["rel"] == "prev"]
        for path in ("/stac/collections?sortby=title", "/stac/collections?sortby=-id", "/stac/collections?q=regular"):
            refused = client.get(path, params={**httpx.URL(path).params, "token": back})
            assert (refused.status_code, refused.json()["kind"]) == (400, "invalid-cursor"), refused.text
        # Equal titles come in one order in both directions, so no page before is offered.
        for sort in ("title", "-created"):
            page = client.get(f"/stac/collections?limit=2&sortby={sort}").json()
            page = client.get(next(each["href"] for each in page["links"] if each["rel"] == "next")).json()
            assert "prev" not in {each["rel"] for each in page["links"]}
