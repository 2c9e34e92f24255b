"""Parts of answers (``Range``): the same bytes at each request, joined into the whole; GDAL opens a GeoTIFF where it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from tests.families import FAMILIES

READ = "import json, sys, rasterio; print(json.dumps(rasterio.open(sys.argv[1]).read(1).tolist()))"
FORMS = ["geotiff", "netcdf", "zarr", "csv", "covjson"]


@pytest.fixture(scope="module")
def cube(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("ranges") / "ranges-regular.nc"
    FAMILIES["regular"].make().isel(time=[0]).to_netcdf(path, engine="netcdf4")
    return stored(str(path))


@pytest.fixture(params=[16 << 20, 64], ids=["in memory", "on disk"])
def client(serve: Callable[..., httpx.Client], request: pytest.FixtureRequest) -> httpx.Client:
    return serve(memory_bytes=request.param)


@pytest.mark.parametrize("form", FORMS)
def test_parts_join_into_the_whole(client: httpx.Client, cube: Any, form: str) -> None:
    address = f"/ogcapi/collections/{cube.dataset_id}/coverage?f={form}"
    plain = {"Accept-Encoding": "identity"}
    whole = client.get(address, headers=plain)
    assert whole.status_code == 200, whole.text
    size, tag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == client.head(address, headers=plain).headers["accept-ranges"] == "bytes"
    parts = []
    for asked, begin, end in (("bytes=0-99", 0, 100), (f"bytes=100-{size - 41}", 100, size - 40), ("bytes=-40", size - 40, size)):
        part = client.get(address, headers={**plain, "Range": asked, "If-Range": tag})
        assert (part.status_code, part.headers["content-range"]) == (206, f"bytes {begin}-{end - 1}/{size}")
        assert part.headers["etag"] == tag
        assert part.headers["content-type"] == whole.headers["content-type"]
        assert int(part.headers["content-length"]) == len(part.content) == end - begin
        parts.append(part.content)
    assert b"".join(parts) == whole.content
    other = client.get(address, headers={**plain, "Range": "bytes=0-99", "If-Range": '"of another version"'})
    assert (other.status_code, other.content) == (200, whole.content)
    behind = client.get(address, headers={**plain, "Range": f"bytes={size}-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{size}")


def test_gdal_opens_a_geotiff_where_it_is(client: httpx.Client, cube: Any) -> None:
    address = f"{str(client.base_url).rstrip('/')}/ogcapi/collections/{cube.dataset_id}/coverage?f=geotiff"
    assert client.get(address).status_code == 200
    truth = cube.truth()["t"].isel(time=0).sortby("lat", ascending=False)
    # In a process of its own, because rasterio does not let the thread of the server run while it waits for it.
    command = [sys.executable, "-c", READ, f"/vsicurl/{address}"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    np.testing.assert_array_equal(np.array(json.loads(told), "f4"), truth.values.astype("f4"))
