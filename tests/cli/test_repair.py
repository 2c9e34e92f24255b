"""``--normalise``, ``--transform`` and ``--skip-bad``: what a refusal advises is pasted, and the faces show what it made."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.cli.conftest import Shell

from cubeport.errors import CubeportError
from cubeport.server.incoming import validated
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.templates import DatasetTemplate


def cube(path: Path, **more: xr.Variable) -> Path:
    xr.Dataset(
        {"sea temp": (("time", "lat", "lon"), np.full((2, 2, 3), 290.0, "f4"), {"units": "K"}), **more},
        coords={
            "time": ("time", [1, 0], {"units": "days since 2020-01-01"}),
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
            "lon": ("lon", [1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


def test_refusals_are_cured_by_pasting_what_they_say(shell: Shell, tmp_path: Path) -> None:
    file = cube(tmp_path / "a.nc")
    flags: list[str] = []
    for _ in range(3):
        said = shell("ingest", file, "--id", "a", *flags, "--json")
        if said.code == 0:
            break
        words = shlex.split(said.json["error"]["next"].partition(";")[0])
        assert words[:2] == ["repeat", "with"]
        flags += words[2:]
    # Both problems are listed together; names change last.
    assert flags == ["--normalise", 'sort: ["time"]', "--normalise", 'rename: {"sea temp": "sea_temp"}']
    detail = shell.ok("datasets", "a", "--json").json
    assert [each["name"] for each in detail["variables"]] == ["sea_temp"]
    assert detail["extent"]["temporal"] == {"start": "2020-01-01", "end": "2020-01-02"}


def test_steps_change_values_and_units_on_the_faces(shell: Shell, tmp_path: Path) -> None:
    file = cube(tmp_path / "a.nc")
    steps = ["--normalise", "rename: {sea temp: sst}", "--normalise", "sort: time", "--transform", "kelvin_to_celsius: sst"]
    shell.ok("ingest", file, "--id", "a", *steps)
    assert shell.ok("datasets", "a", "--json").json["variables"][0]["units"] == "degC"
    store = next((shell.root / "data" / "store" / "a").glob("*/cube.zarr"))
    with xr.open_zarr(store) as opened:
        assert np.allclose(opened["sst"].values, 16.85, atol=1e-4)
    assert "nothing changed" in shell.ok("ingest", file, "--id", "a", *steps).out
    assert shell("ingest", file, "--id", "a", *steps[:-2], "--json").code == 4


def test_a_bad_variable_is_skipped_when_asked_and_reported(shell: Shell, tmp_path: Path) -> None:
    file = cube(tmp_path / "a.nc", ok=xr.Variable(("lat", "lon"), np.zeros((2, 3), "f4")))
    said = shell.ok("ingest", file, "--id", "a", "--normalise", "sort: time", "--skip-bad", "--json")
    assert any("'sea temp' is skipped" in each["message"] for each in said.json["warnings"])
    assert [each["name"] for each in shell.ok("datasets", "a", "--json").json["variables"]] == ["ok"]


@pytest.mark.parametrize("step", ["flip: true", "[1]", "rename: {a: b}\ndrop: c", "wrap_longitude: 90", "{"])
def test_what_is_not_a_step_is_refused_by_its_place(shell: Shell, tmp_path: Path, step: str) -> None:
    said = shell("ingest", cube(tmp_path / "a.nc"), "--id", "a", "--normalise", step, "--json")
    assert said.code == 2
    assert "normalise" in said.err


STEPS = [{"rename": {"a": "b"}}, {"drop": ["c"]}, {"set_attributes": {"t": {"units": "K", "note": None}}}, {"sort": ["time"]}]


def test_a_request_and_a_template_take_the_same_steps() -> None:
    body = {
        "dataset_id": "a",
        "source": "a.nc",
        "skip_bad": True,
        "template": {"normalise": STEPS, "transforms": [{"scale": {"t": {"factor": 0.1}}}]},
    }
    asked = validated(body, IngestionRequest)
    assert asked.template is not None
    assert asked.template.steps()["normalise"] == STEPS
    stored = json.loads(Ingestion(dataset_id="a", request=asked).model_dump_json())
    assert Ingestion.model_validate(stored).request == asked
    written = {"id": "a", "title": "A", "period_type": "daily", "source": {"kind": "files", "paths": "a.nc"}}
    plain = DatasetTemplate.model_validate(written)
    changed = DatasetTemplate.model_validate({**written, "normalise": STEPS})
    assert changed.steps()["normalise"] == STEPS
    assert changed.digest() != plain.digest()


def test_a_request_with_a_wrong_step_is_refused_with_its_place() -> None:
    with pytest.raises(CubeportError) as caught:
        validated({"dataset_id": "a", "source": "a.nc", "template": {"normalise": [{"flip": True}]}}, IngestionRequest)
    assert any("normalise" in each.loc and 0 in each.loc for each in caught.value.errors)
