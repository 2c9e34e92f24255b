"""What starting costs: nothing scientific and no web framework for the catalog's commands; little for the help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import netCDF4
import pytest

from cubeport.cli import _app
from cubeport.main import Catalog, run

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
loaded = {name.partition(".")[0] for name in sys.modules} | {
    name for name in sys.modules if name.startswith(("cubeport.", "sqlalchemy.dialects."))
}
sys.stderr.write("\\nLOADED " + json.dumps([code, sorted(loaded)]))
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
        ["import", "*.txt", "--dry-run"],
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
    assert "sqlalchemy.dialects.postgresql" not in loaded
    if arguments == ["--help"]:
        own = {"cubeport.main.catalog", "cubeport.main.service", "cubeport.catalog.models"}
        assert {"sqlalchemy", "fsspec", "jsonschema", "pydantic", "pydantic_settings", "yaml", *own} & set(loaded) == set()


def test_a_named_file_is_ingested_without_what_only_a_child_reads_with(tmp_path: Path) -> None:
    """It is half of the time of a small ingestion. In a folder, the formats of the files decide which are taken."""
    Catalog.create(tmp_path / "i").close()
    source = tmp_path / "a.nc"
    with netCDF4.Dataset(source, "w") as file:
        for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
            file.createDimension(name, 2)
            file.createVariable(name, "f8", (name,))[:] = [1, 2]
            file[name].units = units
        file.createVariable("t", "f4", ("lat", "lon"))[:] = 1
    line = [sys.executable, "-c", PROGRAM, "ingest", str(source), "--id", "a"]
    done = subprocess.run(line, cwd=tmp_path / "i", capture_output=True, text=True, timeout=120, check=True)
    code, loaded = json.loads(done.stderr.rpartition("LOADED ")[2])
    assert (code, sorted(set(HEAVY) & set(loaded) - {"rich"})) == (0, []), done.stderr


def test_only_the_command_that_runs_is_made(monkeypatch: pytest.MonkeyPatch, instance: Path, capsys: Any) -> None:
    made: list[str] = []
    make = _app._make
    monkeypatch.setattr(_app, "_make", lambda name, registered: made.append(name) or make(name, registered))
    assert run(["search", "--count", "--instance", str(instance)]) == 0
    assert run(["--help"]) == 0
    assert made == ["search"]
    assert "\n  lineage " in capsys.readouterr().out


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


ALONE = """
import importlib.machinery, json, sys

GONE = set(json.loads(sys.argv[1]))

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in GONE else super().find_spec(name, path, target)

sys.meta_path = [Finder if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
from cubeport.main import run
sys.exit(run(sys.argv[2:]))
"""
EXTRAS = [
    *(name for name in HEAVY if name != "rich"),
    *("cf_xarray", "cftime", "dask", "distributed", "h5netcdf", "httpcore", "httptools", "isal", "jinja2", "numcodecs", "orjson"),
    *("packaging", "uvicorn", "xstac", "iris_sample_data"),
]


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where none of the extras is installed."""
    command = [sys.executable, "-c", ALONE, json.dumps(EXTRAS), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_plain_install_is_the_whole_catalog(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.nc").write_bytes(b"CDF\x01" + b"\0" * 40)
    for arguments in (
        ["init"],
        ["add", "a.txt", "--key", "a", "--extract-metadata"],
        ["search", "--text", "a"],
        ["import", "*.txt"],
        ["validate", "--all"],
        ["doctor"],
        ["fsck"],
        ["convert", "--to", "tinydb"],
        ["export", "records"],
    ):
        done = alone(tmp_path, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)


def test_what_needs_an_extra_names_it(tmp_path: Path) -> None:
    assert alone(tmp_path, "init").returncode == 0
    (tmp_path / "b.nc").write_bytes(b"CDF\x01" + b"\0" * 40)
    done = alone(tmp_path, "add", "b.nc", "--require-metadata")
    assert done.returncode == 6
    assert done.stderr.startswith("error[extra-missing]: ")
    assert "next: pip install 'cubeport[netcdf]'" in done.stderr
    done = alone(tmp_path, "add", "b.nc", "--extract-metadata")
    assert done.returncode == 0
    assert "warning: extractor netcdf failed: extra-missing" in done.stderr
    done = alone(tmp_path, "serve", "--port", "0")
    assert done.returncode == 6, done.stderr
    assert done.stderr.startswith("error[extra-missing]: ")
    assert "next: pip install 'cubeport[service]'" in done.stderr
