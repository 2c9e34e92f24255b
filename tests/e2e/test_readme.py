"""The commands of the README, as a newcomer pastes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import xarray as xr

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(heading: str, language: str) -> str:
    """Return the first block of that language below a heading."""
    below = README.partition(f"\n## {heading}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", below, re.DOTALL)
    assert found is not None
    return found[1]


def months(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True)
    for month in numbers:
        xr.Dataset(
            {"tas": (("time", "lat", "lon"), np.full((1, 3, 4), float(month), "float32"), {"units": "K"})},
            coords={
                "time": ("time", [[0, 31, 60, 91][month - 1]], {"units": "days since 2020-01-01"}),
                "lat": ("lat", [45.0, 50.0, 55.0], {"units": "degrees_north"}),
                "lon": ("lon", [0.0, 10.0, 20.0, 30.0], {"units": "degrees_east"}),
            },
        ).to_netcdf(folder / f"tas_20200{month}.nc", engine="h5netcdf")


@pytest.mark.skipif(not (Path(sys.prefix) / "bin" / "activate").is_file(), reason="runs in the .venv that .ci/setup makes")
def test_your_own_files(tmp_path: Path) -> None:
    months(tmp_path / "data", 1, 2, 3)
    months(tmp_path / "data" / "next", 4)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    bare = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "CUBEPORT_SERVER__PORT": "0", "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        ["sh", "-e", "-c", block("Your own files", "sh").replace("cubeport serve", "exec cubeport serve")],
        cwd=tmp_path,
        env=bare,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        while (found := re.search(r"http://127\.0\.0\.1:\d+", printed)) is None:
            line = process.stdout.readline()
            assert line, (printed, process.stderr.read() if process.stderr else "")
            printed += line
        url = found[0]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and httpx.get(f"{url}/health", trust_env=False).status_code != 200:
            time.sleep(0.1)
        names: dict[str, object] = {}
        os.environ["NO_PROXY"] = os.environ.get("NO_PROXY", "127.0.0.1")
        exec(block("Your own files", "python").replace("http://127.0.0.1:8000", url), names)
        tas, part = names["tas"], names["part"]
        assert isinstance(tas, xr.Dataset)
        assert isinstance(part, xr.Dataset)
        np.testing.assert_array_equal(tas["tas"].mean(("lat", "lon")), [1, 2, 3])
        assert part["tas"].shape == (3, 3, 4)
        assert tas["tas"].attrs["units"] == "K"
        subprocess.run(
            ["sh", "-e", "-c", f". ../.venv/bin/activate\n{block('Keep it current', 'sh')}"],
            cwd=tmp_path / "climate",
            env=bare,
            check=True,
        )
        port = names["cubeport"].connect(url)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(port["tas"].open()["tas"].mean(("lat", "lon")), [1, 2, 3, 4])
        collection = httpx.get(f"{url}/stac/collections/tas", trust_env=False).json()
        assert (collection["title"], collection["license"]) == ("Air temperature at 2 m", "CC-BY-4.0")
    finally:
        process.terminate()
        process.communicate(timeout=60)
