"""The form on the page of a dataset: what a browser without scripts sends, the address that it shows, and what that gives."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="module")
def sea(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """Ten days, two levels and two variables on a small grid."""
    file = tmp_path_factory.mktemp("part") / "sea.nc"
    shape = (10, 2, 4, 6)
    data = xr.Dataset(
        {
            name: (("time", "depth", "lat", "lon"), np.arange(480, dtype="f4").reshape(shape) + add, {"units": "K"})
            for name, add in (("temp", 0), ("salt", 1000))
        },
        coords={
            "time": ("time", np.arange(10.0), {"units": "days since 2021-03-01", "standard_name": "time"}),
            "depth": ("depth", [0.0, 10.0], {"units": "m", "positive": "down", "axis": "Z"}),
            "lat": ("lat", np.arange(5.0, 45, 10), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.arange(5.0, 65, 10), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    data.to_netcdf(file)
    shelf.keep("seaform", file, period_type="daily")
    return data


def form_of(page: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the address of the form and its fields as they are sent if nobody touches them."""
    form = re.search(r'<form class="choose part".*?</form>', page, re.DOTALL)
    assert form is not None
    action = re.search(r'action="([^"]+)"', form[0])
    assert action is not None
    fields = [(name, "") for name in re.findall(r'<input id="\w+" name="(\w+)"', form[0])]
    fields += [("f", "html")]
    for name, options in re.findall(r'<select id="\w+" name="(\w+)">(.*?)</select>', form[0], re.DOTALL):
        chosen = re.findall(r'<option value="([^"]*)" selected', options) or re.findall(r'<option value="([^"]*)"', options)
        fields.append((name, chosen[0]))
    return action[1], fields


def send(client: httpx.Client, **filled: str | list[str]) -> str:
    action, fields = form_of(client.get("/datasets/seaform?f=html").text)
    kept = [(name, value) for name, value in fields if name not in filled]
    boxes = [(name, value) for name, given in filled.items() for value in ([given] if isinstance(given, str) else given)]
    answer = client.get(action, params=[*kept, *boxes], headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def address_in(page: str) -> str:
    found = re.search(r'aria-label="The address of this part"><code>([^<]+)</code>', page)
    assert found is not None
    return html.unescape(found[1])


def test_untouched_it_is_all_of_the_data(client: httpx.Client, sea: xr.Dataset) -> None:
    page = send(client)
    assert "960 values" in page
    assert address_in(page).endswith("/ogcapi/collections/seaform/coverage?f=netcdf")


def test_the_address_gives_what_was_chosen_and_says_its_size_before(client: httpx.Client, sea: xr.Dataset) -> None:
    page = send(
        client, properties=["temp", "salt"], bbox="12,11,38,29", datetime="2021-03-02/2021-03-04", subset="depth(10)", form="netcdf"
    )
    part = sea.isel(time=slice(1, 4), depth=[1], lat=slice(1, 3), lon=slice(1, 4))
    assert f"{2 * part.temp.size} values" in page
    address = address_in(page)
    assert f'href="{html.escape(address)}"' in page
    answer = client.get(address)
    assert answer.headers["content-type"] == "application/x-netcdf"
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
        for name in ("temp", "salt"):
            np.testing.assert_array_equal(np.ravel(found[name]), np.ravel(part[name]))


def test_one_ticked_box_is_one_variable(client: httpx.Client, sea: xr.Dataset) -> None:
    address = address_in(send(client, properties="salt", form="csv"))
    assert "properties=salt" in address
    assert client.get(address).text.splitlines()[0].split(",")[-1] == "salt"


def test_what_is_wrong_in_a_field_is_a_page_that_names_it(client: httpx.Client, sea: xr.Dataset) -> None:
    action, _ = form_of(client.get("/datasets/seaform?f=html").text)
    answer = client.get(action, params={"f": "html", "bbox": "here", "form": "netcdf"}, headers={"Accept": "text/html"})
    assert answer.status_code == 400
    assert "bbox" in answer.text


def test_a_client_that_asks_for_no_page_keeps_the_strict_grammar(client: httpx.Client, sea: xr.Dataset, tmp_path: Path) -> None:
    action, _ = form_of(client.get("/datasets/seaform?f=html").text)
    assert client.get(f"{action}?bbox=&f=csv").status_code == 400
    assert client.get(f"{action}?form=csv").status_code == 400
