"""What our OGC face rests on in pygeoapi 0.24: a failure here after an upgrade says what changed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from cubeport.adapters.ogc.provider import Planned
from cubeport.errors import CubeportError, NotFound


@pytest.fixture(scope="module")
def provider() -> Any:
    from cubeport.adapters.ogc import api

    return api


def ask(provider: Any, plan: Any, form: str = "netcdf") -> Any:
    return provider.coverage("sea@v1", plan, form=form, media_type="application/x-netcdf")


def test_it_is_the_release_that_was_measured() -> None:
    assert importlib.metadata.version("pygeoapi").startswith("0.24.")


@pytest.mark.parametrize("form", ["json", "covjson", "netcdf"])
def test_a_native_format_lets_our_bytes_through_untouched(provider: Any, form: str) -> None:
    content = b'{"title": "<b>", "value": null}\xff'
    assert ask(provider, lambda: content, form) is content


def test_our_exceptions_come_through(provider: Any) -> None:
    missing = NotFound("nothing there", what="data")

    def fails() -> bytes:
        raise missing

    with pytest.raises(NotFound) as caught:
        ask(provider, fails)
    assert caught.value is missing


def test_another_answer_than_200_is_our_fault(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "get_collection_coverage", lambda *_: ({}, 500, "bug"))
    with pytest.raises(CubeportError, match="500"):
        ask(provider, lambda: b"")


def test_the_provider_is_built_for_each_call_and_queried_once(provider: Any) -> None:
    calls: list[int] = []
    for _ in range(3):
        ask(provider, lambda: calls.append(1) or b"x")
    assert calls == [1, 1, 1]


def test_one_call_costs_far_less_than_a_millisecond(provider: Any) -> None:
    ask(provider, lambda: b"")
    began = time.perf_counter()
    for _ in range(200):
        ask(provider, lambda: b"")
    assert (time.perf_counter() - began) / 200 < 0.002


def test_a_view_holds_one_collection_and_the_shared_api_none(provider: Any) -> None:
    seen: list[Any] = []
    original = provider.get_collection_coverage
    try:
        provider.get_collection_coverage = lambda api, request, name: seen.append(api) or original(api, request, name)
        ask(provider, lambda: b"")
    finally:
        provider.get_collection_coverage = original
    assert list(seen[0].config["resources"]) == ["sea@v1"]
    assert provider._api().config["resources"] == {}
    assert seen[0] is not provider._api()


def test_logging_is_left_as_it_was() -> None:
    script = (
        "import logging\n"
        "logging.getLogger().setLevel(logging.INFO)\n"
        "from cubeport.adapters.ogc import api as provider\n"
        "before = list(logging.getLogger().handlers)\n"
        "provider._api()\n"
        "assert logging.getLogger().handlers == before, logging.getLogger().handlers\n"
        "assert logging.getLogger().level == logging.INFO\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_it_would_set_up_logging_by_itself(provider: Any) -> None:
    script = (
        "import logging\n"
        "from pygeoapi.log import setup_logger\n"
        "setup_logger({'level': 'ERROR'})\n"
        "assert logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_it_is_not_loaded_before_it_is_needed() -> None:
    script = "import sys, cubeport.server.ogcapi\nassert not [name for name in sys.modules if name.startswith('pygeoapi')]"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("position", {"coords": "POINT (1 2)"}),
        ("area", {"coords": "POLYGON ((0 0, 1 1, 1 0, 0 0))"}),
        ("cube", {"bbox": "1,2,3,4"}),
    ],
)
@pytest.mark.parametrize("form", ["covjson", "netcdf", "csv"])
def test_edr_lets_bytes_through_a_formatter_of_that_name(provider: Any, kind: str, where: dict[str, str], form: str) -> None:
    content = b'{"title": "<b>"}\xff'
    assert provider.edr("sea@v1", lambda: content, kind=kind, where=where, form=form, media_type="x/y") is content


def test_edr_lets_our_exceptions_through(provider: Any) -> None:
    def fails() -> bytes:
        raise NotFound("nothing there", what="data")

    with pytest.raises(NotFound):
        provider.edr("sea@v1", fails, kind="position", where={"coords": "POINT (1 2)"}, form="csv", media_type="x/y")


def test_edr_takes_a_place_across_the_antimeridian(provider: Any) -> None:
    for box in ("170,-10,-170,10", "-540,-90,540,90", "1,2,3,1,2,3"):
        assert provider.edr("d", lambda: b"x", kind="cube", where={"bbox": box}, form="csv", media_type="x/y") == b"x"


# --- why parameters never reach it --------------------------------------------------------------------------------------


def stock(provider: Any, **params: str) -> tuple[int, str]:
    """The same call with the client's parameters left in."""
    from pygeoapi.api import APIRequest
    from pygeoapi.api.coverages import get_collection_coverage

    definition = {
        "type": "coverage",
        "name": provider._PROVIDER,
        "data": Planned(dict),
        "format": {"name": "zarr", "mimetype": "x"},
    }
    view = provider.copy.copy(provider._api())
    view.config = {**view.config, "resources": {"d": {"type": "collection", "extents": {}, "providers": [definition]}}}
    request = APIRequest(SimpleNamespace(query_params=params, headers={}, scope={"path": "/"}), ["en-US"])
    _, status, content = get_collection_coverage(view, request, "d")
    return int(status), str(content)


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d"])
def test_its_own_reading_of_a_malformed_box_is_a_server_error(provider: Any, box: str) -> None:
    assert stock(provider, bbox=box)[0] == 500


def test_its_own_reading_of_subset_grows_with_the_cube(provider: Any) -> None:
    def seconds(count: int) -> float:
        began = time.perf_counter()
        stock(provider, subset="(" * count)
        return time.perf_counter() - began

    seconds(10)
    assert seconds(600) > 6 * seconds(150)


def test_what_is_no_native_format_is_written_by_json_dumps(provider: Any) -> None:
    from pygeoapi.util import to_json

    assert "NaN" in to_json({"v": float("nan")}, False)
    assert "&lt;b&gt;" in to_json({"title": "<b>"}, False)


def test_an_unknown_format_is_no_200(provider: Any) -> None:
    assert stock(provider, f="gif")[0] == 400
