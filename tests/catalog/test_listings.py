"""Records in lists that other tools read: Intake catalogs, tables for DataLad."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import cubeport
from cubeport.errors import TargetExists

READ = """
import sys
import intake
catalog = intake.open_catalog(sys.argv[1])
for name in list(catalog):
    print(name, catalog[name].read())
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[cubeport.Catalog]:
    with cubeport.Catalog.create(tmp_path / "catalog") as opened:
        opened.add_bytes(b"a,b\n1,2\n", {"site": "Oslo"}, filename="table.csv", key="oslo:co2", title="CO2", tags=["raw"])
        opened.add_bytes(b"a,b\n3,4\n", filename="{{ env(HOME) }}.csv", key="oslo-co2")
        opened.add_bytes(b"%PDF", filename="paper.pdf", title="Not for Intake")
        opened.add_artifact(locator="https://example.org/x.nc", format="netcdf", title="Elsewhere")
        opened.add({"no": "bytes"}, title="No bytes")
        yield opened


def test_an_intake_catalog_has_what_intake_can_open(catalog: cubeport.Catalog, tmp_path: Path) -> None:
    file = tmp_path / "intake.yaml"
    assert catalog.export_intake(file) == 3
    sources = yaml.safe_load(file.read_text())["sources"]
    assert {name.rpartition("_")[0] or name for name in sources} >= {"oslo"}
    oslo = next(each for each in sources.values() if each["metadata"].get("site") == "Oslo")
    assert (oslo["driver"], oslo["description"], oslo["metadata"]["tags"]) == ("csv", "CO2", ["raw"])
    assert oslo["args"]["urlpath"].startswith("{{ CATALOG_DIR }}/catalog/files/")
    assert sources["elsewhere"]["args"]["urlpath"] == "https://example.org/x.nc"
    assert not any("env(" in each["args"]["urlpath"] and "{{ env" in each["args"]["urlpath"] for each in sources.values())
    assert len(sources) == len({each["metadata"]["cubeport_id"] for each in sources.values()}) == 3
    with pytest.raises(TargetExists):
        catalog.export_intake(file)
    assert catalog.export_intake(tmp_path / "few.yaml", site="Oslo") == 1


def test_a_table_of_files_has_addresses_and_hashes(catalog: cubeport.Catalog) -> None:
    rows = list(csv.DictReader(catalog.url_table()))
    assert {each["filename"] for each in rows} >= {"table.csv", "paper.pdf", "x.nc"}
    (table,) = (each for each in rows if each["filename"] == "table.csv")
    assert table["url"] == catalog.path("oslo:co2").as_uri()
    assert table["sha256"] == catalog.get("oslo:co2").artifacts[0].hashes["sha256"]
    assert (table["size"], table["key"], table["title"]) == ("8", "oslo:co2", "CO2")
    catalog.add_bytes(b"x", filename="table.csv")
    names = [each["filename"] for each in csv.DictReader(catalog.url_table())]
    assert len(names) == len(set(names)) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intake_itself_opens_it(catalog: cubeport.Catalog, tmp_path: Path) -> None:
    """In an environment of its own, by pip."""
    catalog.export_intake(tmp_path / "intake.yaml", "artifact.format=csv")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    wanted = ["intake>=2.0.9", "intake-xarray>=2.0.0", "jinja2", "pandas"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    done = subprocess.run([python, "-c", READ, tmp_path / "intake.yaml"], capture_output=True, text=True, check=True)
    assert "1  2" in done.stdout
    assert "3  4" in done.stdout
