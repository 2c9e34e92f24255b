"""More datasets than one Catalog links to: pystac-client walks the tree and finds each once; the landing page stays small."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from pystac_client import Client
from pystac_client.stac_api_io import StacApiIO
from tests.families import FAMILIES

import cubeport
from cubeport.documents import stac
from cubeport.main import service as main
from cubeport.main.catalog import Catalog
from cubeport.server.app import App, create_app
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.state import CUBE, VERSION
from cubeport.settings import load

from .test_conditional import Site
from .test_growth import _clone

COUNT, MOST = 230, 25


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("tree") / "instance"
    source = FAMILIES["regular"].write(root.parent, "t")
    cubeport.Catalog.create(root).close()
    settings, catalog = load(root), Catalog.open(root)
    children = main.children_of(settings)
    with main.service_of(settings, catalog, children) as service, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stac, "CHILDREN", MOST)
        done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(source),)))
        version, seed = done.version_id, catalog.backend.get_by_key("t")
        assert version is not None
        rows = {table: catalog.rows.get(table, version) for table in (VERSION, CUBE)}
        with catalog.backend.transaction():
            for n in range(COUNT):
                _clone(catalog, seed, rows, n, random.Random(n))
        app = create_app(main._app_parts(settings, service, children))
        assert isinstance(app, App)
        yield Site(app, service, root, [version], "")


class Reading(StacApiIO):
    """The transport of pystac-client, over the app in this process."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def request(self, href: str, *_: Any, **__: Any) -> str:
        answer = self.site.get(href.removeprefix("http://127.0.0.1:8000"))
        assert answer.status_code == 200, (href, answer.text)
        return answer.text


def test_pystac_client_walks_all_of_it(site: Site) -> None:
    walked, widest = [], 0
    stack: list[Any] = [Client.open("http://127.0.0.1:8000/stac", stac_io=Reading(site))]
    while stack:
        found = stack.pop()
        # By its links alone: a client that knows the API would ask /stac/collections.
        children = [link.resolve_stac_object(root=found.get_root()).target for link in found.get_child_links()]
        widest = max(widest, len(children))
        for child in children:
            if child.STAC_OBJECT_TYPE == "Collection":
                walked.append(child.id)
            else:
                assert child.get_single_link("parent").get_absolute_href() == found.get_self_href()
                stack.append(child)
    assert sorted(walked) == sorted(["t", *(f"d{n:05}" for n in range(COUNT))])
    assert widest <= MOST
    assert len(site.get("/stac").json()["links"]) < 40


def test_a_part_of_nothing_is_404(site: Site) -> None:
    assert site.get("/stac/catalogs/q").status_code == 404
    assert site.get("/stac/catalogs/d000").json()["type"] == "Catalog"
    assert "d00012" in site.get("/stac/catalogs/d0001", accept="text/html").text
