"""Files behind HTTP addresses, over real sockets: what comes is what they have, once, and whoever lies is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.provided.places import Place, ask, days, instance, name_of, netcdf

import cubeport
from cubeport.adapters.fetching.kept import KeptFolder
from cubeport.cubes.sources import Fetched


def test_periods_of_an_address_are_fetched_once_and_only_those_that_are_missing(tmp_path: Path, rolling: Place) -> None:
    done = rolling.ask("2024-01-01", "2024-01-05")
    assert (done.status, done.action, done.error) == ("completed", "create", None)
    assert rolling.held() == days(*range(5))
    assert len(rolling.provider.requests("GET")) == 5
    rolling.provider.forget()
    planned = rolling.ask("2024-01-01", "2024-01-07", dry_run=True)
    assert planned.plan is not None
    assert (planned.plan.action, planned.plan.fetch) == ("append", ({"start": "2024-01-06", "end": "2024-01-07", "count": 2},))
    assert rolling.provider.requests("GET") == [], "a dry run asks what there is, and fetches nothing"
    rolling.provider.forget()
    again = rolling.ask("2024-01-01", "2024-01-05")
    assert (again.reused, again.version_id) == (True, done.version_id)
    assert rolling.provider.requests() == []
    more = rolling.ask("2024-01-03", "2024-01-08")
    assert (more.action, rolling.held()) == ("append", days(*range(8)))
    assert sorted(each[1][-11:-3] for each in rolling.provider.requests("GET")) == ["20240106", "20240107", "20240108"]
    # Without an end: the newest that the source has, and the answer says which that is.
    newest = rolling.ask("2024-01-01")
    assert newest.coverage is not None
    assert (newest.coverage["temporal"]["end"], rolling.held()) == ("2024-01-10", days(*range(10)))


def test_a_hole_is_named_and_so_is_an_end_that_is_not_there(tmp_path: Path, rolling: Place) -> None:
    (rolling.provider.root / "2024" / name_of(3)).unlink()
    hole = rolling.ask("2024-01-01", "2024-01-06")
    assert hole.error is not None
    assert (hole.error["kind"], hole.error["gaps"]) == ("gap", [{"start": "2024-01-04", "end": "2024-01-04", "count": 1}])
    short = rolling.ask("2024-01-05", "2024-01-12")
    assert short.error is not None
    assert (short.error["kind"], short.error["available"]) == (
        "coverage-incomplete",
        {"start": "2024-01-05", "end": "2024-01-10"},
    )
    nothing = rolling.ask("2023-01-01", "2023-01-03")
    assert nothing.error is not None
    assert nothing.error["kind"] == "no-data"
    assert rolling.provider.requests("GET") == [], "nothing is fetched that will be refused"
    # The next step of the refusal.
    done = rolling.ask("2024-01-01", "2024-01-06", allow_gaps=True)
    assert (done.status, rolling.held()) == ("completed", days(0, 1, 2, 4, 5))
    # What comes late is taken when it is there.
    rolling.provider.put(f"2024/{name_of(3)}", netcdf(tmp_path, 3))
    late = rolling.ask("2024-01-01", "2024-01-06")
    assert (late.status, late.action, rolling.held()) == ("completed", "extend", days(*range(6)))
    assert late.plan is None or late.plan.fetch


def test_what_lies_between_the_dataset_and_a_request_comes_too(rolling: Place) -> None:
    assert rolling.ask("2024-01-04", "2024-01-05").status == "completed"
    later = rolling.ask("2024-01-08", "2024-01-08")
    assert (later.action, later.error, rolling.held()) == ("append", None, days(*range(3, 8)))
    earlier = rolling.ask("2024-01-01", "2024-01-02")
    assert (earlier.action, earlier.error, rolling.held()) == ("extend", None, days(*range(8)))


@pytest.mark.parametrize(("lost", "day"), [(5, "2024-01-08"), (2, "2024-01-02")])
def test_what_lies_between_and_is_not_there_is_named(rolling: Place, lost: int, day: str) -> None:
    assert rolling.ask("2024-01-04", "2024-01-05").status == "completed"
    (rolling.provider.root / "2024" / name_of(lost)).unlink()
    rolling.provider.forget()
    refused = rolling.ask(day, day)
    assert refused.error is not None
    missing = f"2024-01-{lost + 1:02}"
    assert (refused.error["kind"], refused.error["gaps"]) == ("gap", [{"start": missing, "end": missing, "count": 1}])
    assert (rolling.held(), rolling.provider.requests("GET")) == (days(3, 4), []), "nothing is fetched that will be refused"
    # The next step of the refusal.
    assert rolling.ask(day, day, allow_gaps=True).status == "completed"
    assert set(rolling.held()) == {3, 4} | ({6, 7} if lost == 5 else {1})


def test_files_of_a_month_are_fetched_once_and_give_their_days(tmp_path: Path, place: Place) -> None:
    provider = place.provider
    provider.put("202401.nc", netcdf(tmp_path, *range(31)))
    provider.put("202402.nc", netcdf(tmp_path, *range(31, 40)))
    place.template(f"{{kind: url, template: '{provider.url}/{{YYYY}}{{MM}}.nc'}}")
    assert place.ask("2024-01-05", "2024-02-03").status == "completed"
    assert place.held() == days(*range(4, 34))
    assert place.service.versions(place.id)[0][0].warnings == (), "that a month has other days is nothing odd"
    assert len(provider.requests("GET")) == 2
    provider.put("202402.nc", netcdf(tmp_path, *range(31, 50)))
    assert place.ask("2024-01-05", "2024-02-12").action == "append"
    assert place.held() == days(*range(4, 43))
    assert len(provider.requests("GET")) == 3


def test_params_fill_what_is_no_date(tmp_path: Path, place: Place) -> None:
    place.provider.put("era5/t2m-001.nc", netcdf(tmp_path, 0))
    block = f"{{kind: url, template: '{place.provider.url}/{{model}}/{{field}}-{{DOY}}.nc', params: {{model: era5, field: t2m}}}}"
    place.template(block)
    assert place.ask("2024-01-01", "2024-01-01").status == "completed"
    place.template(block.replace("era5", "../x"))
    with pytest.raises(cubeport.errors.InvalidRequest, match=r"params\.model"):
        place.ask("2024-01-01", "2024-01-01")
    place.template(block.replace(", field: t2m", ""))
    with pytest.raises(cubeport.errors.InvalidRequest, match=r"\{field\} is neither a date"):
        place.ask("2024-01-01", "2024-01-01")


# --- transfers that break off ----------------------------------------------------------------------------------------


def big(tmp_path: Path) -> bytes:
    """Return a file of some MiB that does not compress."""
    values = np.random.default_rng(1).random((8, 256, 512), "float32")
    path = tmp_path / "big.nc"
    time = ("time", np.arange(8), {"units": "days since 2024-01-01", "standard_name": "time"})
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": time,
            "lat": ("lat", np.linspace(-80, 80, 256), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(512) * 0.5, {"units": "degrees_east"}),
        },
    ).to_netcdf(path)
    return path.read_bytes()


def test_what_breaks_off_goes_on_where_it_was(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.adapters.fetching.patience.FIRST_PAUSE_S", 0.0)
    data = big(tmp_path)
    place.provider.put("big.nc", data)
    place.provider.temper("big.nc", cut=len(data) // 2)
    broken = place.take("big.nc")
    assert broken.error is not None
    assert broken.error["kind"] == "source-failed"
    place.provider.forget()
    place.provider.calm("big.nc")
    done = place.take("big.nc")
    assert done.status == "completed", done.error
    assert [each[2] for each in place.provider.requests("GET")] == ["206"]
    assert place.provider.sent() < len(data) * 0.6
    # The same again asks whether it is the same still, and takes nothing.
    place.provider.forget()
    assert place.take("big.nc").reused is True
    assert place.provider.requests("GET") == []


def test_a_resource_that_changed_meanwhile_comes_whole(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.adapters.fetching.patience.FIRST_PAUSE_S", 0.0)
    place.provider.put("a.nc", netcdf(tmp_path, *range(200)))
    place.provider.temper("a.nc", cut=4000)
    assert place.take("a.nc").status == "failed"
    place.provider.calm("a.nc")
    place.provider.put("a.nc", netcdf(tmp_path, *range(200), add=0.5))
    assert place.take("a.nc").status == "completed"
    assert place.held() == {n: n + 0.5 for n in range(200)}


def test_nothing_is_kept_where_nothing_may_be_and_what_comes_is_bounded(tmp_path: Path, place: Place) -> None:
    place.provider.put("a.nc", netcdf(tmp_path, 0, 1))
    place.provider.put("long.nc", netcdf(tmp_path, *range(2000)))
    size = len(netcdf(tmp_path, 0, 1))
    settings = f"ingest: {{keep_fetched_h: 0}}\nlimits: {{source_bytes: {size + 10}}}\n"
    root = instance(tmp_path / "instance", origins=(place.provider.url.rpartition("/")[0],), settings=settings)
    with cubeport.connect(root) as service:
        assert ask(service, "a", source=f"{place.provider.url}/a.nc").status == "completed"
        refused = ask(service, "b", source=f"{place.provider.url}/long.nc")
        assert refused.error is not None
        assert (refused.error["reason"], refused.error["setting"]) == ("too-big", "limits.source_bytes")
    assert not [each for each in (root / "data/fetched").rglob("*") if each.is_file() and each.suffix != ".lock"]


def test_what_is_kept_is_bounded_and_what_is_in_use_stays(tmp_path: Path) -> None:
    kept = KeptFolder(tmp_path, hours=1, max_bytes=250)

    def bring(dataset: str, size: int) -> Path:
        with kept.using(dataset) as folder:
            unit = kept.unit(folder, "source", "unit")
            file = unit.begin(resumes=False) / "a.nc"
            file.write_bytes(bytes(size))
            unit.done(Fetched((file,), "v"), "job")
        return file

    first, second = bring("a", 100), bring("b", 100)
    with kept.using("a"):
        third = bring("c", 100)
        assert (first.exists(), second.exists(), third.exists()) == (True, True, True), "the oldest is in use, and stays"
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True)
    os.utime(second.parent, (0, 0))
    os.utime(second, (0, 0))
    kept.prune()
    assert (second.exists(), third.exists()) == (False, True)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://127.0.0.1:1/a.nc", "sources.origins"),
        ("https://user:pw@example.org/a.nc", "address"),
        ("simplecache::http://127.0.0.1:1/a.nc", "source"),
        ("file:///etc/passwd", "protocol: file"),
        ("s3://bucket/a.nc", "use: [source]"),
        ("store:bucket/a.nc", "use: [source]"),
        ("upload:00000000000000000000000000000000", "POST /uploads"),
    ],
)
def test_what_may_not_be_asked_is_refused_at_once(place: Place, source: str, words: str) -> None:
    with pytest.raises(cubeport.errors.CubeportError) as caught:
        ask(place.service, "a", source=source)
    assert words in f"{caught.value.message} {caught.value.next_step}"
    assert "pw" not in str(caught.value)


# --- providers that lie ----------------------------------------------------------------------------------------------


LIES: dict[str, tuple[tuple[int, ...], dict[str, Any], str]] = {
    # What day 3 is sent as: days and how they are written, and the kind that it is refused with.
    "another grid": ((3,), {"lats": 4}, "grid-mismatch"),
    "other units": ((3,), {"units": "degC"}, "units-mismatch"),
    "another calendar": ((3,), {"calendar": "noleap"}, "calendar-mismatch"),
    "a day that is held": ((2,), {}, "coverage-incomplete"),  # with the values that are held: the asked one is missing
    "a day of later": ((9,), {}, "no-data"),
}


def test_a_provider_that_lies_is_caught_by_name(tmp_path: Path, rolling: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.adapters.fetching.patience.FIRST_PAUSE_S", 0.0)
    assert rolling.ask("2024-01-01", "2024-01-03").status == "completed"
    name, found = f"2024/{name_of(3)}", {}
    for lie, (sent, written, _) in LIES.items():
        rolling.provider.put(name, netcdf(tmp_path, *sent, **written))
        refused = rolling.ask("2024-01-01", "2024-01-04")
        assert refused.error is not None, lie
        found[lie] = refused.error["kind"]
    assert found == {lie: kind for lie, (_, _, kind) in LIES.items()}
    # Half an answer, and none, are never a period that is absent.
    rolling.provider.put(name, netcdf(tmp_path, 3))
    for how, kind in (({"status": 500}, "source-failed"), ({"cut": 500}, "source-failed"), ({"status": 403}, "source-rejected")):
        rolling.provider.temper(name, **how)
        refused = rolling.ask("2024-01-01", "2024-01-04")
        assert refused.error is not None
        assert (refused.error["kind"], refused.error["detail"].partition(":")[0]) == (kind, name_of(3))
    assert "needs no login" in refused.error["next"]
    assert rolling.held() == days(0, 1, 2), "none of it harmed what is published"
    rolling.provider.calm(name)
    # Days that were not asked for are left out, whatever else the file has.
    rolling.provider.put(name, netcdf(tmp_path, 3, 4))
    assert rolling.ask("2024-01-01", "2024-01-04").status == "completed"
    assert rolling.held() == days(0, 1, 2, 3)
    [told] = [each["message"] for each in rolling.service.versions(rolling.id)[0][0].warnings if each["kind"] == "steps-left-out"]
    assert told.endswith("the files have 1 of other periods in 'time', which are left out: 2024-01-05T00:00:00Z")


def test_two_files_of_one_day_are_named(tmp_path: Path, rolling: Place) -> None:
    rolling.provider.put(f"2024/{name_of(1)}", netcdf(tmp_path, 0))
    refused = rolling.ask("2024-01-01", "2024-01-03")
    assert refused.error is not None
    assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "bad-time")
    assert name_of(1) in str(refused.error)


def test_a_sync_looks_back_and_what_is_equal_after_all_is_looked_at_once(tmp_path: Path, rolling: Place) -> None:
    rolling.by_day(more="", sync="sync: {kind: temporal, revisit_periods: 3}\n")
    assert rolling.ask("2024-01-01").status == "completed"
    service = rolling.service
    # Of the last three days one is corrected and one is written anew with the same values; an older one is not looked at.
    rolling.provider.put(f"2024/{name_of(8)}", netcdf(tmp_path, 8, add=0.5))
    rolling.provider.put(f"2024/{name_of(9)}", netcdf(tmp_path, 9) + bytes(8))
    rolling.provider.put(f"2024/{name_of(2)}", netcdf(tmp_path, 2, add=0.5))
    plan = service.sync_plan(rolling.id)
    assert (plan.action, plan.reason, plan.revised) == ("revise", "source_changed", ("2024-01-09", "2024-01-10"))
    synced = service.sync(rolling.id)
    assert (synced.status, synced.ingestion.action) == ("completed", "revise"), synced.ingestion.error
    assert rolling.held() == days(*range(10), d8=8.5)
    assert service.sync_plan(rolling.id).revised == ()
    # Equal in every value: no version, and the next sync does not fetch it again.
    rolling.provider.put(f"2024/{name_of(9)}", netcdf(tmp_path, 9))
    version = service.shown(rolling.id).version.version_id
    assert service.sync(rolling.id).status == "up_to_date"
    assert service.shown(rolling.id).version.version_id == version
    assert service.sync_plan(rolling.id).revised == ()
