"""What starting costs: nothing scientific and no web framework for the catalog's commands; little for the help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cubeport.main import Catalog

HEAVY = (
    "xarray",
    "zarr",
    "numpy",
    "pandas",
    "h5py",
    "netCDF4",
    "pygeoapi",
    "fastapi",
    "starlette",
    "pystac",
    "pyproj",
    "shapely",
    "rich",
)

PROGRAM = """
import json, sys
from cubeport.main import run
code = run(sys.argv[1:])
sys.stderr.write("\\nLOADED " + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("start")
    with Catalog.create(root) as catalog:
        catalog.add({"year": 2018}, title="x", key="k")
    (root / "a.txt").write_text("x")
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["search", "year=2018"],
        ["search", "year=2018", "--json"],
        ["show", "k"],
        ["add", "a.txt", "--title", "y"],
        ["fields"],
        ["info"],
        ["doctor"],
        ["ingest", "*.txt", "--dry-run"],
    ],
    ids=" ".join,
)
def test_the_catalogs_commands_load_nothing_heavy(instance: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=instance, capture_output=True, text=True, timeout=120, check=True
    )
    code, loaded = json.loads(done.stderr.rpartition("LOADED ")[2])
    assert code == 0, done.stderr
    assert sorted(set(HEAVY) & set(loaded)) == []
    if arguments == ["--help"]:
        assert {"sqlalchemy", "fsspec", "jsonschema", "pydantic_settings"} & set(loaded) == set()


def test_importing_cubeport_loads_nothing_at_all() -> None:
    program = "import cubeport, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert {"pydantic", "typer", *HEAVY} & loaded == set()


def test_the_console_script_is_the_command_line(instance: Path) -> None:
    script = Path(sys.executable).with_name("cubeport")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CUBEPORT_")}
    done = subprocess.run([script, "search", "--count"], cwd=instance, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 1
    done = subprocess.run(
        [sys.executable, "-m", "cubeport", "show", "none"], cwd=instance, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error[record-not-found]: ")
