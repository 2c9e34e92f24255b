"""Labels at the end of their periods: 2 January at midnight is the first of January."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError
from tests.provided.places import Place, ask, instance, name_of, netcdf

import cubeport
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.cubes import periods
from cubeport.cubes.calendars import Stamp
from cubeport.cubes.download import period_of
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Instant, Period, Selection, order
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.tables.steps import steps_of
from cubeport.documents import native
from cubeport.service.templates import DatasetTemplate, TemplateFields


def span_of(place: Place) -> tuple[str, str]:
    """Return the first and last period that readers see."""
    found = place.service.shown(place.id)
    temporal = native.summary(found, "http://a").extent.temporal
    assert temporal is not None
    return temporal.start, temporal.end


@pytest.mark.parametrize("calendar", ["standard", "360_day", "noleap"])
def test_a_label_at_the_end_is_of_the_period_before(calendar: str) -> None:
    ends = [Stamp(2001, 2, 1), Stamp(2001, 3, 1), Stamp(2001, 3, 30, 12)]
    found = [periods.moments(each, "monthly", calendar, None, "end") for each in (ends,)]  # type: ignore[arg-type]
    assert periods.numbers_of(found[0], "monthly", calendar) == [2001 * 12, 2001 * 12 + 1, 2001 * 12 + 2]  # type: ignore[arg-type]
    assert periods.moments(ends, "monthly", "standard", None, "middle") is ends
    assert periods.moments(ends, "irregular", "standard", None, "end") is ends
    months = ([Stamp(2001, 1, 1)], [Stamp(2001, 2, 1)])
    assert periods.moments([Stamp(2001, 2, 1)], "monthly", "standard", months, "end") == [Stamp(2001, 1, 1)]
    numbers = Stamps(np.array([order(each) for each in ends]), "standard")
    assert [each - 1 for each in numbers.ordinals] == list(periods.within(numbers, "standard", "end").ordinals)  # type: ignore[attr-defined]


def test_it_needs_periods_and_changes_what_the_template_makes() -> None:
    with pytest.raises(ValidationError, match="needs a period_type"):
        TemplateFields.model_validate({"time_label": "end"})
    said = {"id": "a", "title": "A", "period_type": "daily", "source": {"kind": "files", "paths": "a"}}
    digests = [
        DatasetTemplate.model_validate({**said, **more}).digest() for more in ({}, {"time_label": "middle"}, {"time_label": "end"})
    ]
    assert digests[0] == digests[1] != digests[2]


def test_days_that_are_labelled_at_their_end(tmp_path: Path, place: Place) -> None:
    for number in range(4):
        place.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number + 1, add=-1.0))
    place.by_day(sync="time_label: end\nlayout: {chunks: {time: 2}}\nsync: {kind: temporal}\n")
    done = place.ask("2024-01-01", "2024-01-03")
    assert done.error is None
    assert span_of(place) == ("2024-01-01", "2024-01-03")
    assert place.held() == {1: 0.0, 2: 1.0, 3: 2.0}  # labels are as the provider has them
    assert place.ask("2024-01-01").action == "append"
    assert place.ask("2024-01-01", "2024-01-04").reused
    shown = place.service.shown(place.id)
    assert span_of(place) == ("2024-01-01", "2024-01-04")
    opened = OpenedVersions(place.service.engines).open(place.id, shown.version.version_id, shown.description)
    for time in (
        period_of(shown.description, "daily", {"start": "2024-01-02", "end": "2024-01-03"}),
        Period(Instant((2024, 1, 2)), Instant((2024, 1, 3))),
    ):
        windows = resolve(shown.description, opened.labels(), Selection(datetime=time))
        assert [(run.start, run.stop) for run in windows.along["time"].runs] == [(1, 3)]
    steps = steps_of(opened, shown.description.axes[0], "daily")
    assert steps.labels == ("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04")


def test_an_update_goes_on_with_the_label_of_the_dataset(tmp_path: Path, place: Place) -> None:
    for name, numbers in (("a.nc", (1, 2)), ("b.nc", (3, 5))):
        place.provider.put(name, netcdf(tmp_path, *numbers))
    made = {"period_type": "daily", "time_label": "end", "layout": {"chunks": {"time": 2}}}
    assert place.take("a.nc", template=made).error is None
    assert place.take("b.nc", mode="update", allow_gaps=True).error is None
    assert span_of(place) == ("2024-01-01", "2024-01-05")
    temporal = native.coverage(place.service.shown(place.id).description, "daily").temporal
    assert temporal is not None
    assert [each.start for each in temporal.gaps] == ["2024-01-04"]
    assert place.take("a.nc", mode="replace", template={"period_type": "daily"}).error is None
    assert span_of(place) == ("2024-01-02", "2024-01-03")


@pytest.mark.slow  # an instance of its own, for the allowed folder
def test_files_of_a_template_are_joined_along_the_dimension_that_it_names(tmp_path: Path) -> None:
    incoming = tmp_path / "in"
    incoming.mkdir()
    for member in (1, 2):
        (incoming / f"m{member}.nc").write_bytes(netcdf(tmp_path, 0, 1, add=100.0 * member))
        with xr.open_dataset(incoming / f"m{member}.nc", decode_times=False) as opened:
            whole = opened.load()
        whole.expand_dims(member=[member]).to_netcdf(incoming / f"m{member}.nc")
    root = instance(tmp_path / "instance", roots=(str(incoming),))
    source = f"{{kind: files, paths: '{incoming}/m*.nc', combine: {{dim: member}}}}"
    (root / "config/datasets/ens.yaml").write_text(f"id: ens\ntitle: Ens\nperiod_type: daily\nsource: {source}\n")
    with cubeport.connect(root) as service:
        done = ask(service, "ens", start="2024-01-01")
        assert done.error is None
        axes = {axis.name: axis.size for axis in service.shown("ens").description.axes}
    assert (axes["member"], axes["time"]) == (2, 2)
