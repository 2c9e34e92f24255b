"""CPU of parts of a cube by OPeNDAP and griddap, next to the same part as NetCDF, in one run of alternating rounds.

    python benchmarks/dap.py [--rounds 40]

One server answers. CPU is that of its threads (``/proc/*/schedstat``), so a busy machine does not count. The values of both answers
are compared with those of the source.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

sys.path.insert(0, str(Path(__file__).parent))

from lists import served  # isort: skip  # the benchmarks next to this one
from serve import cpu_ns  # isort: skip

SHAPE = (120, 361, 720)
PARTS = {
    "one step": (slice(7, 8), slice(0, 361), slice(0, 720)),
    "a box, 30 steps": (slice(10, 40), slice(100, 200), slice(200, 400)),
    "a series": (slice(0, 120), slice(80, 81), slice(90, 91)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "instance"
        lat, lon = np.linspace(-90, 90, SHAPE[1]), np.arange(SHAPE[2]) / 2
        values = np.random.default_rng(1).normal(280, 10, SHAPE).astype("f4")
        data = xr.Dataset(
            {"t": (("time", "lat", "lon"), values, {"units": "K"})},
            {
                "time": ("time", np.arange(SHAPE[0]), {"units": "days since 2000-01-01"}),
                "lat": ("lat", lat, {"units": "degrees_north"}),
                "lon": ("lon", lon, {"units": "degrees_east"}),
            },
        )
        data.to_netcdf(Path(name) / "t.nc")
        cubeport.Catalog.create(root).close()
        with cubeport.connect(root) as service:
            done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(Path(name) / "t.nc"),)))
            assert done.status == "completed", done.error
        with served(root) as (client, process):
            print(f"{'part':18} {'NetCDF ms':>10} {'OPeNDAP ms':>11} {'×':>6}")
            for part, index in PARTS.items():
                netcdf, dods = addresses(index)
                check(client, netcdf, dods, values[index])
                spent: dict[str, list[float]] = {netcdf: [], dods: []}
                for _ in range(rounds):
                    for address in (netcdf, dods):
                        before = cpu_ns(process)
                        assert client.get(address).status_code == 200
                        spent[address].append((cpu_ns(process) - before) / 1e6)
                base, ours = (statistics.median(spent[each]) for each in (netcdf, dods))
                print(f"{part:18} {base:10.2f} {ours:11.2f} {ours / base:6.2f}", flush=True)


def addresses(index: tuple[slice, ...]) -> tuple[str, str]:
    """Return the part as NetCDF by griddap, and as DAP2 of the array alone."""
    brackets = "".join(f"%5B{each.start}:1:{each.stop - 1}%5D" for each in index)
    return f"/griddap/t.nc?t{brackets}", f"/dap/t.dods?t{brackets}"


def check(client: httpx.Client, netcdf: str, dods: str, expected: np.ndarray) -> None:
    with xr.open_dataset(io.BytesIO(client.get(netcdf).content), engine="h5netcdf") as found:
        assert np.array_equal(found.t.values, expected)
    body = client.get(dods).content.partition(b"\nData:\n")[2]
    assert np.array_equal(np.frombuffer(body[8 : 8 + 4 * expected.size], ">f4").reshape(expected.shape), expected)


if __name__ == "__main__":
    main()
