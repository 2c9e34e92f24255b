"""Nonsense over a socket, to a server with data: a declared answer of a declared form, no unforeseen one, no path and no secret.

``tests/server/test_fuzz.py`` asks the routes in one process, with a fake service. Here the values go as far as the chunks.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.families import FAMILIES

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, start, stop

FORESEEN = {502, 503, 504, 507}
"""The answers of 500 and above that something outside may cause."""

PROBLEMS = {"application/problem+json", "text/html", "text/plain", "text/xml", "application/xml"}
"""The forms of a refusal: pages for browsers, text of OPeNDAP, XML of WMS and WMTS."""

NASTY = (
    *("", " ", "../..", "%2e%2e", "a" * 300, "\x7f", "é", "🌊", "<script>", "${HOME}", "{{7*7}}", "' OR 1=1 --", "[" * 50),
    *("(" * 50, "null", "1" * 400, "01", "+1", "9" * 32, "nan", "nan,nan,nan,nan", "1e999", "-1", "0", "1,2,3", "true", "{}", "*"),
)  # fmt: skip
LIKELY: dict[str, tuple[str, ...]] = {
    "bbox": ("0,0,10,10", "170,-10,-170,10", "-180,-90,180,90", "0,0,0,0", "10,10,0,0", "0,0,0,10,10,10", "1e308,0,1e309,1"),
    "datetime": ("2020-01-01", "2020-01-01/2020-01-02", "../2020-01-01", "../..", "2020-02-30", "2020-W01", "0001-01-01/.."),
    "subset": ("lat(0:10)", "lon(0:10),lat(0)", "time(*)", "lat(10:0)", 'time("2020-01-01":"2020-01-03")', "nowhere(1)", "lat(0"),
    "coords": ("POINT(0 0)", "POLYGON((0 0,10 0,10 10,0 0))", "LINESTRING(0 0,10 10)", "MULTIPOINT((0 0),(1 1))", "POINT EMPTY"),
    "f": ("json", "html", "csv", "netcdf", "png", "zarr", "covjson", "geotiff", "nowhere"),
    "crs": ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "EPSG:3857", "EPSG:999999", "+proj=longlat"),
    "z": ("0", "1/2", "R5/0/1", "../.."),
    "filter": ("title LIKE 'a%'", "nothing = 1", "(((", "t > 1 AND", "S_INTERSECTS(geometry, POINT(0 0))"),
    "limit": ("1", "0", "-1", "1000000", "x"),
    "width": ("10", "0", "100000"), "height": ("10", "0", "100000"), "cursor": ("x", "e30", "a" * 200),
    "scale-size": ("lat(2),lon(2)", "lat(0)", "lat(100000000)"), "scale-factor": ("2", "0", "1e-9"),
    "radius": ("100", "-1"), "within": ("10",), "corridor-width": ("10", "0"), "corridor-height": ("10",),
}  # fmt: skip
"""Values that pass the grammar of a parameter, or nearly: they come where nonsense alone never does."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nonsense")
    prepare(folder / "i", allow_roots=(str(folder),))
    with cubeport.connect(folder / "i") as service:
        for name in ("regular", "members", "rotated-pole"):
            source = FAMILIES[name].write(folder, name)
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(source),)))
            assert done.status == "completed", done.error
    process, url = start(folder / "i", "--workers", "2")
    yield Server(url, folder / "i", process)
    stop(process)


def operations(site: Server) -> list[tuple[str, str, tuple[str, ...], dict[str, Any], frozenset[str]]]:
    """Return method, path, names in the query, content types by status, and the fields of the body, of every operation."""
    document = site.json("/openapi.json")
    schemas = document["components"]["schemas"]
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = tuple(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
            forms = {status: each.get("content", {}) for status, each in operation["responses"].items()}
            said = {status: frozenset(each.partition(";")[0] for each in content) for status, content in forms.items()}
            text = json.dumps(operation.get("requestBody", {}))
            bodies = [schemas[ref] for ref in re.findall(r"#/components/schemas/(\w+)", text)]
            fields = {name for each in bodies for name in each.get("properties", {})}
            found.append((method.upper(), path, names, said, frozenset(fields)))
    return found


class Nonsense:
    """Requests of one seed."""

    def __init__(self, site: Server, seed: int) -> None:
        self.chance = random.Random(seed)
        self.client = httpx.Client(timeout=60, trust_env=False)  # one, because each makes a context for TLS
        versions = tuple(each["latest_version"] for each in site.json("/datasets")["items"])
        pinned = tuple(f"regular@{each}" for each in versions)
        self.ids = ("regular", "members", "rotated-pole", "nowhere", *pinned, *versions, "regular@latest")
        self.token = (site.root / ".cubeport/local-token").read_text().strip()

    def value(self, name: str) -> str:
        kinds: list[tuple[str, ...]] = [NASTY, LIKELY.get(name, NASTY), LIKELY.get(name, self.ids), self.ids]
        return self.chance.choice(self.chance.choice(kinds))

    def body(self, fields: frozenset[str]) -> bytes:
        if self.chance.random() < 0.3:
            return self.chance.choice((b"", b"[]", b'{"a":', b"\xff", b"null", b'{"a":' * 200, b'{"limit": 1e400}'))
        values = [*NASTY, *self.ids, 1, -1, 1e308, None, True, [], {}, [[]], ["a"] * 40, {"a": {"b": []}}]
        chosen = self.chance.sample(sorted(fields), min(len(fields), self.chance.randrange(1, 5))) if fields else ["nowhere"]
        return json.dumps({name: self.chance.choice(values) for name in chosen}).encode()

    def request(self, site: Server, operation: Any) -> tuple[httpx.Response, str]:
        method, template, names, _, fields = operation
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: quote(self.value(found[1]) or "x", safe=""), template)
        chosen = [self.chance.choice([*names, "nonsense"]) for _ in range(self.chance.randrange(5))]
        query = "&".join(f"{quote(name)}={quote(self.value(name))}" for name in chosen)
        headers = {"Accept": self.chance.choice(["*/*", "text/html", "image/png", "application/json;q=0.1", ";;;", "a" * 500])}
        if method != "GET":
            headers["Content-Type"] = self.chance.choice(["application/json"] * 3 + ["text/plain"])
        if self.chance.random() < 0.7:
            headers["Authorization"] = f"Bearer {self.token}"
        content = self.body(fields) if method != "GET" else None
        address = f"{path}?{query}"
        answer = self.client.request(method, site.url + address, headers=headers, content=content)
        return answer, f"{method} {address} {content!r}"


@pytest.mark.parametrize(("seed", "count"), [(1, 1), pytest.param(2, 25, marks=pytest.mark.slow, id="many")])
def test_nonsense_gets_a_declared_answer_of_a_server_with_data(site: Server, seed: int, count: int) -> None:
    nonsense, wrong, seen = Nonsense(site, seed), [], set()
    secrets = (nonsense.token, str(site.root), str(Path(site.root).parent), "Traceback")
    for operation in operations(site):
        declared: dict[str, frozenset[str]] = operation[3]
        for _ in range(count):
            answer, asked = nonsense.request(site, operation)
            status, kind = str(answer.status_code), answer.headers.get("content-type", "").partition(";")[0]
            seen.add(answer.status_code)
            text = answer.text if "json" in kind or kind.startswith("text/") else ""
            problem = None
            if answer.status_code >= 500 and answer.status_code not in FORESEEN:
                problem = "unforeseen"
            elif status not in (*declared, "404"):  # 404: a name that leads to no route
                problem = "not declared"
            elif answer.status_code >= 400 and kind not in PROBLEMS:
                problem = f"a refusal as {kind}"
            elif answer.status_code < 400 and declared[status] and kind not in declared[status]:
                problem = f"{kind} is not declared"
            elif any(each in text for each in secrets):
                problem = "a path or a secret"
            if problem is not None:
                wrong.append(f"{problem}: {status} {asked}\n    {text[:300]}")
    nonsense.client.close()
    assert not wrong, "\n".join(wrong[:40])
    assert {200, 400, 401, 404} <= seen
    assert site.get("/health").status_code == 200
