"""Clients in the middle of a read when the dataset goes: an error and no fill values, where the client can tell the two apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from .conftest import V2, FakeService, Live, cube

HIDE = {"unpublished": {"published": False}, "deleted": {"deleted": True}}


def hide(service: FakeService, how: str) -> None:
    for name, value in HIDE[how].items():
        setattr(service, name, value)
    service.commit()


@pytest.mark.parametrize("how", HIDE)
@pytest.mark.parametrize("name", ["sea.zarr", f"sea@{V2}.zarr"])
def test_xarray_raises(live: Live, service: FakeService, name: str, how: str) -> None:
    with xr.open_dataset(f"{live.url}/zarr/{name}", engine="zarr", chunks=None) as opened:
        first = opened.sst[0, :3, :4].values
        np.testing.assert_array_equal(first, cube().sst[0, :3, :4].values)
        hide(service, how)
        with pytest.raises(Exception, match="410"):
            opened.sst.load()
    with pytest.raises(Exception, match="410"):
        xr.open_dataset(f"{live.url}/zarr/{name}", engine="zarr", chunks=None)


@pytest.mark.parametrize("how", HIDE)
def test_zarr_python_raises(live: Live, service: FakeService, how: str) -> None:
    array = zarr.open_array(f"{live.url}/zarr/sea/sst", mode="r")
    assert np.asarray(array[0, 0, 0]) == cube().sst.values[0, 0, 0]
    hide(service, how)
    with pytest.raises(Exception, match="410"):
        array[...]


GDAL = """
import json, sys
import rasterio
options = dict(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", CPL_VSIL_CURL_CACHE_SIZE=0)
with rasterio.Env(**options), rasterio.open(sys.argv[1]) as opened:
    print(json.dumps(opened.read(4).ravel().astype(str).tolist()), flush=True)
    sys.stdin.readline()
    try:
        print(json.dumps({"values": opened.read(1).ravel().astype(str).tolist()}))
    except rasterio.errors.RasterioIOError as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.mark.parametrize("how", HIDE)
def test_gdal_takes_every_failed_chunk_for_missing(live: Live, service: FakeService, how: str) -> None:
    # A fact about GDAL 3.12, which docs/serving.md tells its users: 404, 410, 500, 503 and a cut connection are all missing
    # values to it. The test fails, and the page changes, when a release of GDAL can tell.
    pytest.importorskip("rasterio", reason="rasterio, which brings GDAL, is not installed")
    # A process of its own: GDAL holds the lock of the interpreter while it waits for the server.
    place = f'ZARR:"/vsicurl/{live.url}/zarr/sea@{V2}":/sst'
    first, second = in_the_middle([sys.executable, "-c", GDAL, place], service, how)
    assert len(first) == 48
    assert set(second["values"]) == {"nan"}


SCRIPT = """
import * as zarr from "zarrita";
const array = await zarr.open(new zarr.FetchStore(process.argv[2]), { kind: "array" });
const read = async () => Array.from((await zarr.get(array, [3, null, null])).data).map(String);
console.log(JSON.stringify(await read()));
process.stdin.once("data", async () => {
  try { console.log(JSON.stringify({ values: await read() })); }
  catch (error) { console.log(JSON.stringify({ error: String(error) })); }
  process.exit(0);
});
"""


@pytest.mark.parametrize("how", HIDE)
def test_zarrita_raises(live: Live, service: FakeService, how: str, tmp_path: Path) -> None:
    modules = os.environ.get("ZARRITA_NODE_MODULES")
    node = shutil.which("node")
    if node is None or modules is None or not (Path(modules) / "zarrita").is_dir():
        pytest.skip("zarrita is not here: npm install zarrita, and ZARRITA_NODE_MODULES names its node_modules")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "read.mjs").write_text(SCRIPT)
    first, second = in_the_middle([node, "read.mjs", f"{live.url}/zarr/sea@{V2}/sst"], service, how, cwd=tmp_path)
    assert len(first) == 48
    assert "410" in second["error"]


def in_the_middle(command: list[str], service: FakeService, how: str, cwd: Path | None = None) -> tuple[Any, Any]:
    """Run a reader that prints what it reads, hide the dataset, let it read again, and return both lines."""
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        limit = threading.Timer(30, reader.kill)
        limit.start()
        try:
            first = json.loads(reader.stdout.readline())
            hide(service, how)
            reader.stdin.write("again\n")
            reader.stdin.flush()
            return first, json.loads(reader.stdout.readline())
        finally:
            limit.cancel()
            reader.kill()
