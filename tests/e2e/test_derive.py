"""Derived datasets: values against xarray, keys, staleness, lineage, and kills on the way."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
import zarr
from tests.sample import sample

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.adapters.engines.staging import version_place
from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.gate.tasks import confined
from cubeport.cubes.recipes import RECIPES, key_of
from cubeport.errors import Configuration, InvalidRequest, NotFound
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.service import Service

from .conftest import CUBEPORT, here, start, stop

TIME = np.arange("2018-12-15", "2021-01-20", dtype="datetime64[D]")


def days(path: Path, add: float = 0.0, last: int | None = None) -> FileOptions:
    values = np.random.default_rng(5).normal(280, 10, (TIME.size, 4, 5)).astype("float32") + np.float32(add)
    values[40, 1, 1] = np.nan
    data = xr.Dataset(
        {
            "t": (("time", "lat", "lon"), values, {"units": "K", "cell_methods": "time: mean", "standard_name": "air_temperature"}),
            "p": (("time", "lat", "lon"), np.abs(values), {"units": "mm", "cell_methods": "area: mean time: sum"}),
        },
        coords={
            "time": ("time", TIME.astype("datetime64[ns]"), {"standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0, 30.0, 40.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0, 2.0, 3.0, 4.0], {"units": "degrees_east"}),
        },
        attrs={"title": "Days"},
    )
    data.isel(time=slice(None, last)).to_netcdf(path)
    return FileOptions(files=(str(path),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare(tmp_path / "i")
    with cubeport.connect(tmp_path / "i") as service:
        done = service.ingest_here(IngestionRequest(dataset_id="tas"), days(tmp_path / "a.nc"))
        assert done.status == "completed", done.error
        service.describe("tas", license="CC-BY-4.0")
    return tmp_path / "i"


def opened(service: Service, dataset_id: str) -> xr.Dataset:
    store: Any = VersionStore(service.engines, dataset_id, service.shown(dataset_id).version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None) as found:
        return found.load()


def derived(service: Service, *arguments: Any, **options: Any) -> Any:
    done = service.derive(*arguments, **options)
    assert done.status == "completed", done.error
    return done


def test_values_are_those_of_xarray_and_documents_say_how_they_were_made(root: Path) -> None:
    with cubeport.connect(root) as service:
        source = opened(service, "tas")
        derived(service, "resample", ["tas"], dataset_id="monthly", params={"period_type": "monthly"})
        monthly = opened(service, "monthly")
        whole = source.sel(time=slice("2019-01-01", "2020-12-31")).resample(time="MS")
        assert monthly.sizes["time"] == 24, "December 2018 and January 2021 are not there whole"
        np.testing.assert_allclose(monthly.t, whole.mean(skipna=False).t, rtol=1e-6)
        np.testing.assert_allclose(monthly.p, whole.sum(skipna=False).p, rtol=1e-6)
        assert np.isnan(monthly.t[0, 1, 1]), "a day is missing"
        assert monthly.t.attrs["cell_methods"] == "time: mean time: mean"
        assert monthly.p.attrs["cell_methods"] == "area: mean time: sum time: sum"
        shown = service.shown("monthly")
        assert shown.description.temporal.period_type == "monthly"
        assert (shown.texts.license, shown.texts.title) == ("CC-BY-4.0", "Days: resample")

        derived(service, "normal", ["tas"], dataset_id="normal", params={"start": 2019, "end": 2020})
        normal = opened(service, "normal")
        months = source.sel(time=slice("2019", "2020")).groupby("time.month")
        np.testing.assert_allclose(normal.t, months.mean().t, rtol=1e-6)
        assert normal.t.attrs["cell_methods"] == "time: mean within years time: mean over years"
        assert normal.time.attrs.get("climatology", normal.time.encoding.get("climatology")) == "climatology_bounds"

        derived(service, "anomaly", ["tas"], dataset_id="anomaly", params={"start": 2019, "end": 2020})
        anomaly = opened(service, "anomaly")
        expected = source.t.groupby("time.month") - months.mean().t
        np.testing.assert_allclose(anomaly.t, expected, atol=1e-4)
        assert anomaly.t.attrs["standard_name"] == "air_temperature_anomaly"
        assert anomaly.time.equals(source.time)
        for name in ("monthly", "normal", "anomaly"):
            assert service.dataset(name).state.published
        for recipe, params in (("resample", {"period_type": "yearly"}), ("normal", {"start": 2019, "end": 2020})):
            # The twelve steps were taken for the months of 2019, and their mean was published as that of the year.
            with pytest.raises(InvalidRequest, match=r"'normal' is a climatology: .* 2019 to 2020"):
                service.derive(recipe, ["normal"], dataset_id="of-normal", params=params)


@pytest.mark.parametrize("said", [None, "daily"])
@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_a_period_with_holes_is_not_taken_for_whole(root: Path, tmp_path: Path, calendar: str, said: str | None) -> None:
    """A month with half of its days was published as the sum of the month, since labels with holes are irregular."""
    length = 30 if calendar == "360_day" else 31
    numbers = np.setdiff1d(np.arange(4 * length), np.arange(length + 5, length + 20))
    labels = ("time", numbers, {"units": "days since 2021-01-01", "calendar": calendar, "standard_name": "time"})
    rain = ("time", np.ones(numbers.size, "f4"), {"units": "mm", "cell_methods": "time: sum"})
    xr.Dataset({"p": rain}, coords={"time": labels}).to_netcdf(tmp_path / "holes.nc")
    with cubeport.connect(root) as service:
        fields = {"dataset_id": "holes", "template": {"period_type": said}, "allow_gaps": True} if said else {"dataset_id": "holes"}
        request = IngestionRequest.model_validate(fields)
        assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "holes.nc"),))).status == "completed"
        derived(service, "resample", ["holes"], dataset_id="sums", params={"period_type": "monthly"})
        sums = opened(service, "sums")
        with xr.open_dataset(tmp_path / "holes.nc", decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as source:
            whole = source.p.resample(time="MS").count()
        expected = [float(n) for label, n in zip(whole.time.values, whole.values, strict=True) if n == label.daysinmonth]
        assert sums.p.values.tolist() == expected
        assert 2 not in {int(str(label)[5:7]) for label in sums.time.values}
        [gap] = service.shown("sums").description.temporal.gaps
        assert gap == ("2021-02", "2021-02", 1)


def test_newer_inputs_with_an_equal_result_are_looked_at_once(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        first = derived(service, "normal", ["tas"], dataset_id="normal", params={"start": 2019, "end": 2020})
        shorter = service.ingest_here(IngestionRequest(dataset_id="tas", mode="replace"), days(tmp_path / "c.nc", last=-5))
        assert shorter.status == "completed", shorter.error
        assert service.derived()[0]["state"] == "stale"
        done = service.sync("normal")
        assert (done.status, done.ingestion and done.ingestion.version_id) == ("up_to_date", first.version_id), (
            "no day of 2021 counts"
        )
        [told] = service.derived()
        assert (told["state"], told["inputs"]["data"]["digest"]) == ("fresh", service.shown("tas").version.digest)
        assert service.sync("normal").ingestion is None, "nothing is derived again"


def test_equal_keys_are_not_computed_again_and_stale_ones_are_named_and_rebuilt(root: Path, tmp_path: Path) -> None:
    params = {"period_type": "yearly"}
    with cubeport.connect(root) as service:
        first = derived(service, "resample", ["tas"], dataset_id="years", params=params)
        again = derived(service, "resample", ["tas"], dataset_id="years", params={**params, "least": 1.0})
        assert (again.reused, again.version_id) == (True, first.version_id)
        [told] = service.derived()
        digest = service.shown("tas").version.digest
        bound = {"period_type": "yearly", "method": "cell_methods", "least": 1.0, "partial": False}
        assert told["params"] == bound
        assert told["key"] == key_of(bound, {"data": ("tas", digest)})
        assert (told["state"], service.sync_plan("years").reason) == ("fresh", "inputs_unchanged")
        assert service.sync("years").status == "up_to_date"
        newer = service.ingest_here(IngestionRequest(dataset_id="tas", mode="replace"), days(tmp_path / "b.nc", add=1.0))
        assert newer.status == "completed", newer.error
        [told] = service.derived()
        assert (told["state"], told["newer"]) == ("stale", ["tas"])
        plan = service.sync_plan("years")
        assert (plan.action, plan.reason, plan.sync_kind) == ("rematerialize", "inputs_changed", "derived")
        before = opened(service, "years")
        done = service.sync("years")
        assert done.status == "completed", done.ingestion
        np.testing.assert_allclose(opened(service, "years").t, before.t + 1, rtol=1e-5)
        assert service.derived()[0]["state"] == "fresh"
        edges = service.dataset("years").record.lineage
        assert [(each.rel, each.target) for each in edges] == [("derived_from", service.dataset("tas").record.id)]
        assert str(newer.version_id) in str(edges[0].note)
    both = here("lineage", "tas", "--json", "--instance", root)
    assert both.returncode == 0, both.stderr
    with cubeport.connect(root) as service:
        assert service.dataset("years").record.id in both.stdout


def test_a_recipe_that_gives_other_values_makes_its_datasets_stale_and_kept_results_do_not_outlive_a_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key has parameters and inputs only, and the result of an earlier recipe was kept by it for a day, also when the dataset
    was deleted.
    """
    params = {"period_type": "yearly"}
    with cubeport.connect(root) as service:
        first = derived(service, "resample", ["tas"], dataset_id="years", params=params)
        held = service.derived()[0]["key"]
        revised = replace(RECIPES["resample"], revision=99)
        monkeypatch.setitem(service._derivations.recipes, "resample", revised)  # type: ignore[index]
        compute, values = service._derivations._compute, 0.0

        def changed(recipe: Any, derivation: Any, inputs: Any, into: Path) -> Path:
            made = compute(recipe, derivation, inputs, into)
            zarr.open_group(made)["p"][...] = values  # type: ignore[index]
            return made

        monkeypatch.setattr(service._derivations, "_compute", changed)
        plan = service.sync_plan("years")
        assert (plan.action, plan.reason, plan.target_version) == ("rematerialize", "inputs_changed", held)
        assert "recipe 'resample' gives other values" in plan.message
        assert service.derived()[0]["state"] == "stale"
        assert service.sync("years").status == "completed"
        assert (service.derived()[0]["state"], float(opened(service, "years").p.max())) == ("fresh", 0.0)
        assert derived(service, "resample", ["tas"], dataset_id="years", params=params).reused
        values = 7.0
        service.delete("years")
        again = derived(service, "resample", ["tas"], dataset_id="years", params=params)
        assert again.version_id != first.version_id
        assert float(opened(service, "years").p.max()) == 7.0


def test_an_input_that_is_one_version_is_never_newer_also_when_it_was_removed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEP_LAST", "KEEP_DAYS", "GRACE_MIN"):
        monkeypatch.setenv(f"CUBEPORT_RETENTION__{name}", str(int(name == "KEEP_LAST")))
    with cubeport.connect(root) as service:
        pinned = service.shown("tas").version.version_id
        derived(service, "resample", [f"tas@{pinned}"], dataset_id="years", params={"period_type": "yearly"})
        newer = service.ingest_here(IngestionRequest(dataset_id="tas", mode="replace"), days(tmp_path / "b.nc", add=1.0))
        assert newer.status == "completed", newer.error
        assert [each.version_id for each in service.retain()] == [pinned]
        [told] = service.derived()
        assert (told["state"], told["newer"]) == ("fresh", [])
        assert service.sync("years").detail.reason == "inputs_unchanged"


def test_what_a_recipe_cannot_do_is_refused_before_anything_is_made(root: Path) -> None:
    with cubeport.connect(root) as service:
        for recipe, inputs, params, error in (
            ("nosuch", ["tas"], {}, NotFound),
            ("normal", ["nosuch"], {"start": 2019, "end": 2020}, NotFound),
            ("normal", ["tas", "tas"], {"start": 2019, "end": 2020}, InvalidRequest),
            ("normal", ["tas"], {"start": 2019}, InvalidRequest),
        ):
            with pytest.raises(error):
                service.derive(recipe, inputs, dataset_id="x", params=params)
        with pytest.raises(InvalidRequest, match="from itself"):
            service.derive("resample", ["tas"], dataset_id="tas", params={"period_type": "monthly"})
        for params, kind in (({"period_type": "hourly"}, "invalid-request"), ({"period_type": "daily"}, "invalid-request")):
            done = service.derive("resample", ["tas"], dataset_id="x", params=params)
            assert (done.status, done.error["kind"]) == ("failed", kind), done.error
        percent = service.derive("anomaly", ["tas"], dataset_id="x", params={"start": 2019, "end": 2020, "departure": "percent"})
        assert "temperature" in percent.error["detail"]
        years = service.derive("normal", ["tas"], dataset_id="x", params={"start": 1991, "end": 2000})
        assert years.error["kind"] == "no-data", years.error
        assert list(service.dataset_ids()) == ["tas"]


def test_the_advice_for_a_part_of_a_period_works(root: Path, tmp_path: Path) -> None:
    values = np.arange(40 * 4, dtype="f4").reshape(40, 2, 2)
    made = xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K", "cell_methods": "time: mean"})},
        {
            "time": ("time", np.arange(40.0), {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
            "lon": ("lon", [10.0, 20.0], {"units": "degrees_east"}),
        },
    )
    made.to_netcdf(tmp_path / "days.nc")
    assert here("ingest", tmp_path / "days.nc", "--id", "days", "--instance", root).returncode == 0
    yearly = ("derive", "resample", "days", "--id", "y", "--param", "period_type=yearly", "--instance", root)
    refused = here(*yearly)
    (advice,) = [line for line in refused.stderr.splitlines() if line.startswith("next: ")]
    done = here(*yearly, *shlex.split(advice[advice.index("--") :]))
    assert done.returncode == 0, done.stderr
    with cubeport.connect(root) as service:
        store: Any = VersionStore(service.engines, "y", service.shown("y").version.version_id)
        with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
            np.testing.assert_allclose(opened.tas.values, values.mean(axis=0, keepdims=True), rtol=1e-6)


def test_on_the_command_line_and_over_http(root: Path) -> None:
    made = here("derive", "resample", "tas", "--id", "m", "--param", "period_type=monthly", "--instance", root)
    assert made.returncode == 0, made.stderr
    assert "is derived, version" in made.stdout
    listed = json.loads(here("derive", "--list", "--json", "--instance", root).stdout)["items"]
    assert [(each["dataset_id"], each["state"]) for each in listed] == [("m", "fresh")]
    assert {each["name"] for each in json.loads(here("recipes", "--json", "--instance", root).stdout)["items"]} >= {
        "normal",
        "anomaly",
    }
    process, url = start(root)
    try:
        source = {"kind": "derived", "recipe": "resample", "inputs": ["tas"], "params": {"period_type": "yearly"}}
        body = {"dataset_id": "y", "mode": "replace", "source": source}
        answer = httpx.post(f"{url}/ingestions", json=body, timeout=90, trust_env=False)
        assert (answer.status_code, answer.json()["status"]) == (200, "completed"), answer.text
        assert httpx.get(f"{url}/datasets/y", trust_env=False).json()["extent"]["temporal"] == {"start": "2019", "end": "2020"}
        assert len(httpx.get(f"{url}/derived", trust_env=False).json()["items"]) == 2
        assert len(httpx.get(f"{url}/recipes", trust_env=False).json()["items"]) >= 3
        wrong = httpx.post(f"{url}/ingestions", json={**body, "source": {**source, "inputs": []}}, trust_env=False)
        assert wrong.status_code == 400, wrong.text
    finally:
        stop(process)


@pytest.mark.parametrize("point", sample(["bytes:half", "fetch:before", "commit:before", "commit:after"], every=3))
def test_a_kill_on_the_way_leaves_the_old_or_the_new(root: Path, point: str) -> None:
    command = [*CUBEPORT, "derive", "resample", "tas", "--id", "m", "--param", "period_type=monthly", "--instance", str(root)]
    environment = {**os.environ, "CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": point}
    process = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert process.returncode == -signal.SIGKILL, (point, process.stderr)
    with cubeport.connect(root) as service:
        there = "m" in list(service.dataset_ids())
        assert there == (point == "commit:after")
        done = derived(service, "resample", ["tas"], dataset_id="m", params={"period_type": "monthly"})
        assert done.reused == there
        assert opened(service, "m").sizes["time"] == 24
    left = [each for folder in ("data/staging", ".cubeport/journal/open") for each in (root / folder).iterdir()]
    assert left == []


def test_a_plugins_function_runs_in_a_confined_child(root: Path, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "of_a_plugin.py").write_text(
        "def hottest(data, *, over='time'):\n    return data[['t']].max(over)\n\n\ndef lies(data):\n    return 3\n"
    )
    into = tmp_path / "into"
    into.mkdir()
    with cubeport.connect(root) as service, confined(modules=[tmp_path / "modules"]) as children:
        gate = ConfinedGate(children)
        shown = service.shown("tas")
        inputs = {"data": (version_place(root / "data", "tas", shown.version.version_id), None, shown.description)}
        made = gate.derive("hottest", {"over": "time"}, inputs, into, function="of_a_plugin:hottest")
        with xr.open_zarr(made, consolidated=False) as found:
            np.testing.assert_allclose(found.t, opened(service, "tas").t.max("time"))
        with pytest.raises(Configuration, match="not an xarray"):
            gate.derive("lies", {}, inputs, into, function="of_a_plugin:lies")


PACKAGE = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "cubeport-hottest"
version = "1"
[project.entry-points."cubeport.plugins"]
hottest = "cubeport_hottest:register"
""",
    "cubeport_hottest/__init__.py": """\
def hottest(data, *, keep: float = 0.0):
    found = data[["t"]].max("time", keep_attrs=True)
    return found.where(found.t > keep)


def register(registry):
    registry.recipe("hottest", hottest)
""",
}


@pytest.mark.slow
def test_the_recipe_of_a_package_that_was_installed_by_pip_runs_in_the_confined_child(root: Path, tmp_path: Path) -> None:
    for name, text in PACKAGE.items():
        (tmp_path / "package" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / name).write_text(text)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    [installed] = (tmp_path / "env").glob("lib/python*/site-packages")
    # cubeport and its libraries are those of the tests; the plugin is installed as anybody installs it.
    (installed / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = tmp_path / "env/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", tmp_path / "package"]
    subprocess.run(pip, check=True, timeout=120)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "cubeport", "-i", root, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    assert "hottest" in run("recipes").stdout
    made = run("derive", "hottest", "tas", "--id", "hot", "--param", "keep=280")
    assert made.returncode == 0, made.stderr
    again = run("derive", "hottest", "tas", "--id", "hot", "--param", "keep=280.0")
    assert "nothing" in (again.stdout + again.stderr).lower(), "a parameter that is bound alike is the same"
    with cubeport.connect(root) as service:
        expected = opened(service, "tas").t.max("time")
        np.testing.assert_allclose(opened(service, "hot").t, expected.where(expected > 280))
    refused = run("derive", "hottest", "tas", "--id", "hot2", "--param", "kept=280")
    assert refused.returncode == 2
    assert "kept" in refused.stderr
    without = here("-i", root, "sync", "hot", "--plan")
    assert "hottest" in without.stdout + without.stderr or without.returncode != 0, "without the plugin it is said, not guessed"
