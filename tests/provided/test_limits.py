"""What the settings say of ingestions from sources that are not on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.provided.places import Place, ask, days, instance, name_of, netcdf

import cubeport
from cubeport.errors import NotFound


def own(tmp_path: Path, place: Place, settings: str = "") -> Path:
    """Return an instance of its own with the template of *place*."""
    made = urlsplit(place.provider.url)
    root = instance(tmp_path / "own", origins=(f"{made.scheme}://{made.netloc}",), settings=settings)
    (root / "extents").mkdir(exist_ok=True)
    template = (place.root / f"config/datasets/{place.id}.yaml").read_text()
    (root / f"config/datasets/{place.id}.yaml").write_text(template)
    return root


HERE = "extent_id: here\nbbox: [0.6, -5, 2.4, 15]\n"


def test_a_request_that_names_no_extent_has_the_default_one(tmp_path: Path, rolling: Place) -> None:
    root = own(tmp_path, rolling, "default_extent: here\n")
    with cubeport.connect(root) as service:
        with pytest.raises(NotFound, match="There is no extent 'here', which default_extent names") as caught:
            ask(service, rolling.id, start="2024-01-01", end="2024-01-02")
        assert "make extents/here.yaml" in str(caught.value.next_step)
        (root / "extents/here.yaml").write_text(HERE)
        made = ask(service, rolling.id, start="2024-01-01", end="2024-01-02")
        assert made.dataset_id == f"{rolling.id}_here"
        again = ask(service, rolling.id, start="2024-01-01", end="2024-01-03")
        assert (again.dataset_id, again.action) == (f"{rolling.id}_here", "append")
        with service[f"{rolling.id}_here"].open() as opened:
            assert opened.lon.values.tolist() == [1, 2]
            assert opened.t.values[:, 0, 0].tolist() == list(days(0, 1, 2).values())


def test_a_dataset_of_the_whole_source_stays_the_one_that_its_id_names(tmp_path: Path, rolling: Place) -> None:
    root = own(tmp_path, rolling)
    with cubeport.connect(root) as service:
        ask(service, rolling.id, start="2024-01-01", end="2024-01-02")
    (root / "extents/here.yaml").write_text(HERE)
    file = root / "config/service.yaml"
    file.write_text(f"{file.read_text()}default_extent: here\n")
    with cubeport.connect(root) as service:
        assert ask(service, rolling.id, end="2024-01-03").dataset_id == rolling.id
        assert len(service[rolling.id].open().lon) == 4


def test_more_periods_than_one_ingestion_may_fetch_are_counted_and_refused_at_once(tmp_path: Path, place: Place) -> None:
    """Hours of ten thousand years are a list of 88 million periods."""
    for number in range(5):
        place.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number))
    place.by_day()
    root = own(tmp_path, place, "limits: {periods: 3}\n")
    template = root / f"config/datasets/{place.id}.yaml"
    with cubeport.connect(root) as service:
        error = ask(service, place.id, start="2024-01-01", end="2024-01-05").error or {}
        assert (error["kind"], error["setting"], error["value"]) == ("too-large", "limits.periods", 5)
        assert "--start 2024-01-01 --end 2024-01-03" in str(error)
        assert place.provider.requests() == []
        ask(service, place.id, start="2024-01-01", end="2024-01-03")
        assert ask(service, place.id, start="2024-01-01", end="2024-01-05").action == "append"
        template.write_text(template.read_text().replace("daily", "hourly").replace("{DD}", "{DD}{HH}").replace(place.id, "hours"))
        began = time.process_time()
        error = ask(service, "hours", start="0001-01-01T00", end="9999-12-31T23").error or {}
        assert (error["kind"], error["value"]) == (
            "too-large",
            87_649_464,
        )  # the standard calendar has two days more than the proleptic one
        assert time.process_time() - began < 2
