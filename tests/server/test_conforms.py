"""A conformance class of the STAC face is listed exactly when there is a test of it: each has its row here, by name."""

from __future__ import annotations

import ast
from pathlib import Path

from cubeport.documents.stac import CONFORMS_TO

ROOT = Path(__file__).resolve().parents[2]

_STAC, _OGC = "https://api.stacspec.org/", "http://www.opengis.net/spec/"
_PAGES = "test_items_are_the_retained_versions_newest_first_and_page_into_the_whole"
_SEARCH, _ITEMS, _CQL2 = "tests/server/test_stac.py", "tests/service/test_items.py", "tests/documents/test_cql2.py"

TESTS: dict[str, tuple[str, str]] = {
    f"{_STAC}v1.0.0/core": (_SEARCH, "test_every_own_link_answers_as_it_is_typed"),
    f"{_STAC}v1.0.0/collections": (_SEARCH, "test_one_state_on_every_face"),
    f"{_STAC}v1.0.0/browseable": (_SEARCH, "test_pystac_client_walks_it_and_xarray_opens_what_it_finds"),
    f"{_STAC}v1.0.0/ogcapi-features": (_SEARCH, _PAGES),
    f"{_STAC}v1.0.0/ogcapi-features#fields": (_SEARCH, "test_some_fields"),
    f"{_STAC}v1.0.0/ogcapi-features#sort": (_SEARCH, "test_items_of_one_collection_are_sorted"),
    f"{_STAC}v1.0.0/item-search": (_SEARCH, "test_get_and_post_find_the_same"),
    f"{_STAC}v1.0.0/item-search#fields": (_SEARCH, "test_some_fields"),
    f"{_STAC}v1.0.0/item-search#sort": (_ITEMS, "test_items_come_in_the_order_that_is_asked_for"),
    f"{_STAC}v1.1.0/item-search#sort": (_ITEMS, "test_items_come_in_the_order_that_is_asked_for"),
    f"{_STAC}v1.0.0-rc.2/item-search#filter": (_SEARCH, "test_filters_fit_the_same_by_get_and_post"),
    f"{_STAC}v1.0.0-rc.1/collection-search": (_SEARCH, "test_collections_pass_their_filters_down"),
    f"{_STAC}v1.0.0-rc.1/collection-search#free-text": (_SEARCH, "test_collections_pass_their_filters_down"),
    f"{_STAC}v1.0.0-rc.1/collection-search#filter": (_SEARCH, "test_collections_are_filtered"),
    f"{_STAC}v1.0.0-rc.1/collection-search#fields": (_SEARCH, "test_some_fields"),
    f"{_STAC}v1.1.0/collection-search#sort": (_SEARCH, "test_collections_pass_their_filters_down"),
    f"{_OGC}ogcapi-common-2/1.0/conf/simple-query": (_SEARCH, "test_items_are_filtered_by_place_and_time"),
    f"{_OGC}ogcapi-features-1/1.0/conf/core": (_SEARCH, _PAGES),
    f"{_OGC}ogcapi-features-1/1.0/conf/geojson": (_SEARCH, "test_get_and_post_find_the_same"),
    f"{_OGC}ogcapi-features-3/1.0/conf/filter": (_SEARCH, "test_filters_fit_the_same_by_get_and_post"),
    f"{_OGC}ogcapi-features-3/1.0/conf/features-filter": (_SEARCH, "test_queryables_are_what_filters_know"),
    f"{_OGC}ogcapi-features-3/1.0/conf/queryables": (_SEARCH, "test_queryables_are_what_filters_know"),
    **{
        f"{_OGC}cql2/1.0/conf/{name}": (_CQL2, "test_every_class_of_cql2_that_is_listed_has_a_test_here")
        for name in (
            "cql2-text", "cql2-json", "basic-cql2", "advanced-comparison-operators", "case-insensitive-comparison",
            "accent-insensitive-comparison", "basic-spatial-functions", "spatial-functions", "temporal-functions",
            "array-functions", "property-property", "arithmetic",
        )
    },
}  # fmt: skip


def test_a_class_is_listed_exactly_when_it_has_a_test() -> None:
    assert set(CONFORMS_TO) == set(TESTS)
    assert len(CONFORMS_TO) == len(set(CONFORMS_TO))
    for path, name in set(TESTS.values()):
        tree = ast.parse((ROOT / path).read_text())
        assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}, f"{path} has no {name}"
