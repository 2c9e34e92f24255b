"""Output forms: every line of the table has its encoder, its name and its media types, and they are found however written."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cubeport.adapters.encoders.modules import EncoderModules
from cubeport.cubes.forms import FORMS, Encoder, Form, form_named


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_has_its_encoder(form: Form) -> None:
    assert isinstance(EncoderModules().of(form), Encoder)


def test_no_name_means_two_forms() -> None:
    names = [name for form in FORMS for name in (form.name, form.media_type, *form.also)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NetCDF", "netcdf"),
        ("NetCDF4", "netcdf"),
        ("application/x-netcdf", "netcdf"),
        ("CoverageJSON", "covjson"),
        ("application/vnd.cov+json; charset=utf-8", "covjson"),
        ("CSV", "csv"),
        ("gif", None),
    ],
)
def test_a_form_is_found_however_it_is_written(text: str, name: str | None) -> None:
    found = form_named(text)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(("text", "form"), [("NetCDF", "netcdf"), ("application/x-netcdf", "netcdf"), ("COVJSON", "covjson")])
def test_f_takes_any_case_and_media_types(client: httpx.Client, stored: Any, text: str, form: str) -> None:
    cube = stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")
    for kind, place in (("coverage", {}), ("position", {"coords": "POINT(0 0)"}), ("cube", {"bbox": "0,0,10,10"})):
        answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={"f": text, "datetime": "1850-01", **place})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == next(each.media_type for each in FORMS if each.name == form)
    answer = client.get(f"/datasets/{cube.dataset_id}/download", params={"format": "CSV", "bbox": "0,0,10,10"})
    assert answer.headers["content-type"].startswith("text/csv")


def test_every_form_is_offered_where_a_collection_lists_it(client: httpx.Client, stored: Any) -> None:
    cube = stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")
    address = f"/ogcapi/collections/{cube.dataset_id}"
    offered = client.get(address).json()["output_formats"]
    assert offered == [form.name for form in FORMS]
    for name in offered:
        assert client.get(f"{address}/coverage", params={"f": name, "bbox": "0,0,10,10"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/datasets/{id}/download", {"variables": "none"}, "variables"),
        ("/datasets/{id}/download", {"variables": "a,,b"}, "variables"),
        ("/datasets/{id}/download", {"format": "gif"}, "format"),
        ("/datasets/{id}/download", {"start": "soon"}, "start"),
        ("/datasets/{id}/download", {"start": "1850-99"}, "start"),
        ("/datasets/{id}/download", {"end": "1850-99"}, "end"),
        ("/datasets/{id}/download", {"datetime": "soon"}, "datetime"),
        ("/ogcapi/collections/{id}/coverage", {"properties": "none"}, "properties"),
        ("/ogcapi/collections/{id}/position", {"coords": "POINT(0 0)", "parameter-name": "none"}, "parameter-name"),
        ("/ogcapi/collections/{id}/position", {"coords": "POINT(0 0)", "parameter-name": "a,,b"}, "parameter-name"),
        ("/ogcapi/collections/{id}/position", {"coords": "POINT(0 0)", "z": "5"}, "z"),
        ("/ogcapi/collections/{id}/cube", {"bbox": "0,0,9,9", "parameter-name": "none"}, "parameter-name"),
        ("/ogcapi/collections/{id}/map", {"properties": "none"}, "properties"),
    ],
)
def test_a_problem_names_the_parameter_that_was_used(
    client: httpx.Client, stored: Any, path: str, query: dict[str, str], name: str
) -> None:
    cube = stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")
    answer = client.get(path.format(id=cube.dataset_id), params=query)
    assert answer.status_code == 400, answer.text
    [problem] = answer.json()["errors"]
    assert problem["loc"] == ["query", name]
    assert name in problem["message"]
    others = {"properties", "variables", "parameter-name", "subset", "f", "datetime"} - {name}
    assert not others & set(problem["message"].replace(":", " ").split()), problem["message"]
