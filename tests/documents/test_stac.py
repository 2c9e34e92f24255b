"""STAC documents say what the data say, and validate for every family of grids."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes.checks import check
from cubeport.cubes.describe import describe
from cubeport.cubes.pictures.looks import look_of
from cubeport.documents import native, ogc, stac, stac_sealing
from cubeport.documents.texts import Provider, PublishedView, Texts, VersionRef
from cubeport.errors import SourceRejected

from .validation import problems

SITE = stac.Site(public_url="https://cubes.example/port", id="port", title="A port", description="Cubes.")
V1, V2, V3 = ("0" * 31 + n for n in "123")


def ref(version_id: str, day: int) -> VersionRef:
    return VersionRef(version_id=version_id, created_at=datetime(2026, 11, day, tzinfo=UTC), digest="ab" * 32, size_bytes=1234)


def shown_of(raw: xr.Dataset, **changes: Any) -> PublishedView:
    cube = describe(raw)
    texts = Texts(
        dataset_id="sst",
        title="Sea surface temperature",
        description="As measured.",
        keywords=("ocean", "temperature"),
        license="CC-BY-4.0",
        license_url="https://creativecommons.org/licenses/by/4.0/",
        providers=(Provider(name="A lab", roles=("producer", "licensor"), url="https://lab.example"),),
        citation="A lab (2026): SST.",
        doi="10.5281/zenodo.1234567",
        source="A lab's archive",
        source_url="https://lab.example/sst",
        render=({"colormap": "thermal", "range": [270, 310]},),
    )
    fields: dict[str, Any] = {
        "texts": texts,
        "version": ref(V2, 2),
        "description": cube,
        "sealed": json.loads(json.dumps({**stac.seal(cube, raw), "manifest": {"file:size": 321}}, allow_nan=False)),
        "record_version": 3,
        "record_id": "f" * 32,
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "updated_at": datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC),
        "latest": V2,
        "versions": (ref(V3, 3), ref(V2, 2), ref(V1, 1)),
        "older": V1,
        "newer": V3,
    }
    return PublishedView(**(fields | changes))


def grid(lon: np.ndarray, lat: np.ndarray, times: int = 3, **attributes: Any) -> xr.Dataset:  # type: ignore[type-arg]
    values = np.arange(times * len(lat) * len(lon), dtype="i2").reshape(times, len(lat), len(lon))
    return xr.Dataset(
        {
            "sst": (
                ("time", "lat", "lon"),
                values,
                {
                    "units": "K",
                    "long_name": "Temperature",
                    "standard_name": "sea_surface_temperature",
                    "cell_methods": "time: mean",
                    "scale_factor": 0.5,
                    "add_offset": 270.0,
                    "_FillValue": np.int16(-999),
                },
            )
        },
        coords={
            "time": ("time", np.arange(float(times)), {"units": "days since 2024-02-27", "standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north", "long_name": "Latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "long_name": "Longitude"}),
        },
        attrs=attributes,
    )


SMALL = grid(np.array([0.5, 1.5, 2.5, 3.5]), np.array([52.5, 51.5, 50.5]))
CROSSING = grid(np.arange(170.5, 190), np.arange(-9.5, 10))


def links(document: dict[str, Any]) -> dict[str, str]:
    return {each["rel"]: each["href"] for each in reversed(document["links"])}


@pytest.fixture
def opened(realdata: Path) -> Iterator[Callable[[str], xr.Dataset]]:
    handles: list[xr.Dataset] = []

    def open_one(name: str) -> xr.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = realdata / name
            dataset = (
                xr.open_zarr(path, decode_cf=False, chunks=None, consolidated=False)
                if path.suffix == ".zarr"
                else xr.open_dataset(path, decode_cf=False, engine="netcdf4")
            )
        handles.append(dataset)
        return dataset

    yield open_one
    for each in handles:
        each.close()


def test_a_collection_has_every_field_of_its_table(schemas: Path) -> None:
    document = stac.collection(shown_of(SMALL), SITE)
    assert problems(document, schemas) == []
    assert document["id"] == "sst"
    assert document["extent"] == {
        "spatial": {"bbox": [[0.0, 50.0, 4.0, 53.0]]},
        "temporal": {"interval": [["2024-02-27T00:00:00Z", "2024-02-29T00:00:00Z"]]},
    }
    assert document["cube:dimensions"] == {
        "time": {
            "type": "temporal", "extent": ["2024-02-27T00:00:00Z", "2024-02-29T00:00:00Z"], "step": "P1D", "description": "time",
        },
        "lat": {
            "type": "spatial", "axis": "y", "extent": [50.0, 53.0], "step": -1.0,
            "reference_system": 4326, "unit": "degrees_north", "description": "Latitude",
        },
        "lon": {
            "type": "spatial", "axis": "x", "extent": [0.0, 4.0], "step": 1.0,
            "reference_system": 4326, "unit": "degrees_east", "description": "Longitude",
        },
    }  # fmt: skip
    assert document["cube:variables"] == {
        "sst": {
            "type": "data",
            "dimensions": ["time", "lat", "lon"],
            "description": "Temperature",
            "unit": "K",
            "shape": [3, 3, 4],
            "chunks": [3, 3, 4],
            "data_type": "int16",
            "nodata": -999,
            "attrs": {
                "standard_name": "sea_surface_temperature",
                "long_name": "Temperature",
                "units": "K",
                "cell_methods": "time: mean",
            },
        }
    }
    assert document["proj:code"] == "EPSG:4326"
    assert document["proj:bbox"] == [0.0, 50.0, 4.0, 53.0]
    assert document["proj:shape"] == [3, 4]
    assert document["proj:transform"] == [1.0, 0.0, 0.0, 0.0, -1.0, 53.0]
    assert document["renders"] == {
        "sst": {"title": "Temperature", "assets": ["zarr"], "rescale": [[270.0, 310.0]], "nodata": -999, "colormap_name": "thermal"}
    }
    assert document["summaries"] == {"cf:standard_name": ["sea_surface_temperature"], "cf:cell_methods": ["time: mean"]}
    assert (document["sci:doi"], document["sci:citation"]) == ("10.5281/zenodo.1234567", "A lab (2026): SST.")
    assert (document["version"], document["created"], document["updated"]) == (
        V2,
        "2026-11-01T00:00:00.000000Z",
        "2026-11-02T03:04:05.000000Z",
    )
    assert document["providers"] == [
        {"name": "A lab", "roles": ["producer", "licensor"], "url": "https://lab.example"},
        {"name": "A port", "roles": ["host"], "url": "https://cubes.example/port"},
    ]
    assert all(link["title"] and link["type"] for link in document["links"])


def test_a_licence_that_nobody_stated_is_other_without_a_link() -> None:
    silent = Texts(dataset_id="sst", title="SST", description="As measured.")
    collection = stac.collection(shown_of(SMALL, texts=silent), SITE)
    assert collection["license"] == "other"
    assert "license" not in {link["rel"] for link in collection["links"]}


def test_renders_are_the_looks_of_maps() -> None:
    """So that other programs draw the colours of our maps, thumbnails and legends."""
    changes = {"shown_min": 270.3, "shown_max": 309.1, "standard_name": "air_temperature", "nodata": None}
    cube = shown_of(SMALL).description
    field = cube.variable(cube.fields[0]).model_copy(update=changes)
    look = look_of(field)
    drawn = cube.model_copy(update={"variables": tuple(field if each.name == field.name else each for each in cube.variables)})
    (render,) = stac_sealing._renders(drawn).values()
    assert render["rescale"] == [[look.low, look.high]] == [[270, 310]]
    assert render["colormap_name"] == look.palette == "thermal"
    said = {"attributes": {"flag_values": [1, 2], "flag_meanings": "land sea"}, "valid_min": 1.0, "valid_max": 2.0}
    classes = field.model_copy(update=said)
    classed = cube.model_copy(update={"variables": tuple(classes if each.name == field.name else each for each in cube.variables)})
    (render,) = stac_sealing._renders(classed).values()
    assert "rescale" not in render


def test_assets_come_in_their_order_and_open_as_xpystac_wants_them() -> None:
    shown = shown_of(SMALL)
    assets = stac.collection(shown, SITE)["assets"]
    assert list(assets) == ["zarr", "zarr-pinned", "manifest", "geozarr", "thumbnail", "netcdf"]
    assert assets["zarr"]["href"] == "https://cubes.example/port/zarr/sst"
    assert assets["zarr"]["type"] == "application/vnd.zarr"
    assert assets["zarr"]["roles"] == ["data", "latest"]
    assert assets["zarr"]["xarray:open_kwargs"] == {"engine": "zarr", "consolidated": True, "zarr_format": 3}
    assert assets["thumbnail"]["href"] == "https://cubes.example/port/datasets/sst/thumbnail.png"
    assert assets["zarr-pinned"]["href"] == f"https://cubes.example/port/zarr/sst@{V2}"
    assert assets["zarr-pinned"]["version"] == V2
    assert assets["manifest"]["href"].endswith(f"@{V2}?f=manifest")
    assert assets["manifest"]["file:checksum"] == "1220" + "ab" * 32
    assert assets["manifest"]["file:size"] == 321
    assert assets["netcdf"]["href"] == "https://cubes.example/port/datasets/sst/download"
    tight = stac.Site(public_url="https://cubes.example", download_cells=35)
    assert stac.cells(shown.description) == 36
    assert "netcdf" not in stac.collection(shown, tight)["assets"]


def test_links_lead_where_something_answers() -> None:
    document = stac.collection(shown_of(SMALL), SITE)
    url = "https://cubes.example/port"
    found = links(document)
    assert found == {
        "self": f"{url}/stac/collections/sst",
        "root": f"{url}/stac",
        "parent": f"{url}/stac",
        "items": f"{url}/stac/collections/sst/items",
        "item": f"{url}/stac/collections/sst/items/sst@{V3}",
        "http://www.opengis.net/def/rel/ogc/1.0/queryables": f"{url}/stac/collections/sst/queryables",
        "alternate": f"{url}/datasets/sst",
        "http://www.opengis.net/def/rel/ogc/1.0/coverage": f"{url}/ogcapi/collections/sst/coverage",
        "xyz": f"{url}/ogcapi/collections/sst/map/tiles/WebMercatorQuad/{{z}}/{{y}}/{{x}}",
        "tilejson": f"{url}/ogcapi/collections/sst/map/tiles/WebMercatorQuad?f=tilejson",
        "version-history": f"{url}/datasets/sst/versions",
        "predecessor-version": f"{url}/stac/collections/sst@{V1}",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "cite-as": "https://doi.org/10.5281/zenodo.1234567",
        "via": "https://lab.example/sst",
    }
    assert [each["href"] for each in document["links"] if each["rel"] == "item"] == [
        f"{url}/stac/collections/sst/items/sst@{v}" for v in (V3, V2, V1)
    ]


def test_a_pinned_collection_names_its_version_everywhere(schemas: Path) -> None:
    document = stac.collection(shown_of(SMALL, pinned=True, version=ref(V1, 1), is_latest=False, older=None), SITE)
    assert problems(document, schemas) == []
    assert document["id"] == f"sst@{V1}"
    assert document["assets"]["zarr"]["href"].endswith(f"/zarr/sst@{V1}")
    assert document["assets"]["netcdf"]["href"].endswith(f"/datasets/sst@{V1}/download")
    found = links(document)
    assert found["self"].endswith(f"/stac/collections/sst@{V1}")
    assert found["latest-version"].endswith("/stac/collections/sst")
    assert "predecessor-version" not in found


@pytest.mark.parametrize(("kept", "shown"), [("nonsense", "other"), ("cc-by-4.0", "CC-BY-4.0"), ("various", "other")])
def test_a_licence_is_an_spdx_expression_or_other_with_its_link(schemas: Path, kept: str, shown: str) -> None:
    view = shown_of(SMALL)
    texts = view.texts.model_copy(update={"license": kept})
    document = stac.collection(view.model_copy(update={"texts": texts}), SITE)
    assert document["license"] == shown
    assert links(document)["license"] == view.texts.license_url
    assert problems(document, schemas) == []


def test_the_attribution_is_there_and_is_a_text() -> None:
    extension = "https://stac-extensions.github.io/attribution/v0.1.0/schema.json"
    view = shown_of(SMALL)
    assert "attribution" not in (plain := stac.collection(view, SITE))
    assert extension not in plain["stac_extensions"]
    texts = view.texts.model_copy(update={"attribution": "© A lab <b>& others</b>"})
    document = stac.collection(view.model_copy(update={"texts": texts}), SITE)
    assert document["attribution"] == "© A lab &lt;b&gt;&amp; others&lt;/b&gt;"
    assert document["stac_extensions"].count(extension) == 1


def test_a_crossing_box_stays_one_box_and_is_cut_in_its_item(schemas: Path) -> None:
    shown = shown_of(CROSSING)
    collection, item = stac.collection(shown, SITE), stac.item(shown, SITE)
    assert problems(collection, schemas) == []
    assert problems(item, schemas) == []
    assert collection["extent"]["spatial"]["bbox"] == [[170.0, -10.0, -170.0, 10.0]]
    assert item["bbox"] == [170.0, -10.0, -170.0, 10.0]
    assert item["geometry"]["type"] == "MultiPolygon"
    (east,), (west,) = item["geometry"]["coordinates"]
    assert {x for x, _ in east} == {170.0, 180.0}
    assert {x for x, _ in west} == {-180.0, -170.0}
    assert collection["cube:dimensions"]["lon"]["extent"] == [170.0, 190.0]


def test_an_item_is_one_version(schemas: Path) -> None:
    document = stac.item(shown_of(SMALL), SITE)
    assert problems(document, schemas) == []
    assert (document["id"], document["collection"]) == (f"sst@{V2}", "sst")
    properties = document["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"], properties["end_datetime"]) == ("2024-02-27T00:00:00Z", "2024-02-29T00:00:00Z")
    assert properties["deprecated"] is False
    assert properties["cube:dimensions"]["lat"]["extent"] == [50.0, 53.0]
    assert list(document["assets"]) == ["zarr", "manifest"]
    assert document["assets"]["zarr"]["type"] == "application/vnd.zarr"
    assert document["assets"]["zarr"]["href"].endswith(f"@{V2}")
    found = links(document)
    assert found["predecessor-version"].endswith(f"/items/sst@{V1}")
    assert found["successor-version"].endswith(f"/items/sst@{V3}")
    older = stac.item(shown_of(SMALL, version=ref(V1, 1), is_latest=False), SITE)
    assert older["properties"]["deprecated"] is True
    assert links(older)["latest-version"].endswith(f"/items/sst@{V2}")
    assert set(stac.collection(shown_of(SMALL), SITE)["item_assets"]) == set(document["assets"])


def test_one_label_is_a_datetime_and_no_time_is_the_day_it_was_made(schemas: Path) -> None:
    single = stac.item(shown_of(grid(np.arange(4.0), np.arange(4.0), times=1)), SITE)
    assert problems(single, schemas) == []
    assert single["properties"]["datetime"] == "2024-02-27T00:00:00Z"
    assert "start_datetime" not in single["properties"]
    timeless = SMALL.isel(time=0).drop_vars("time")
    shown = shown_of(timeless)
    document = stac.item(shown, SITE)
    assert problems(document, schemas) == []
    assert document["properties"]["datetime"] == document["properties"]["created"] == "2026-11-02T00:00:00.000000Z"
    assert stac.collection(shown, SITE)["extent"]["temporal"]["interval"] == [[None, None]]


@pytest.mark.parametrize(("last", "years"), [("2021-01-01", "1991 to 2020"), ("2020-12-01", "1991 to 2020")])
def test_a_climatology_is_of_its_years_and_its_steps_have_none(schemas: Path, last: str, years: str) -> None:
    """It looked like a series of one year: monthly, from January to December 1991."""
    raw = grid(np.arange(0.0, 4), np.arange(0.0, 3), times=12)
    starts = np.array([f"1991-{month:02d}-01" for month in range(1, 13)], "M8[D]")
    ends = np.array([f"2020-{month:02d}-01" for month in range(2, 13)] + [last], "M8[D]")
    days = [(each - starts[0]).astype(int) for each in (starts, ends)]
    labels = xr.Variable("time", days[0] + 14, {"units": "days since 1991-01-01", "climatology": "years"})
    raw = raw.assign_coords(time=labels).assign(years=(("time", "two"), np.stack(days, axis=1)))
    shown = shown_of(raw)
    made = stac.collection(shown, site=SITE)
    assert problems(made, schemas) == []
    assert made["extent"]["temporal"]["interval"] == [["1991-01-01T00:00:00Z", f"{last}T00:00:00Z"]]
    assert made["cube:dimensions"]["time"]["description"].endswith(
        f"each step is a statistic of several years within {years} (CF 7.4)"
    )
    assert made["cube:dimensions"]["time"]["extent"] == ["1991-01-15T00:00:00Z", "1991-12-15T00:00:00Z"]
    assert ogc.collection(shown, public_url="")["description"].endswith(f"several years within {years} (CF 7.4).")
    summary = native.summary(shown, "")
    assert summary.extent.temporal == native.Periods(start=years[:4], end=years[-4:])
    assert summary.period_type == "climatology"
    months = [str(each)[:19] + "Z" for each in (starts + np.timedelta64(14, "D")).astype("M8[s]")]
    assert native.period_labels(months, "climatology")[::11] == ["Jan", "Dec"]


def test_a_day_that_gregorian_lacks_is_the_last_of_its_month(schemas: Path) -> None:
    raw = grid(np.arange(4.0), np.arange(4.0), times=2)
    raw["time"] = (
        "time",
        np.array([58.0, 59.0]),
        {"units": "days since 2095-01-01", "calendar": "360_day", "standard_name": "time"},
    )
    shown = shown_of(raw)
    document = stac.collection(shown, SITE)
    assert problems(document, schemas) == []
    assert shown.description.temporal.end == "2095-02-30T00:00:00Z"
    assert document["extent"]["temporal"]["interval"] == [["2095-02-28T00:00:00Z", "2095-02-28T00:00:00Z"]]


def test_pages_count_and_continue(schemas: Path) -> None:
    shown = shown_of(SMALL)
    page = stac.collections([shown, shown], SITE, query={"limit": "2"}, next_token="abc", matched=5)
    assert (page["numberReturned"], page["numberMatched"]) == (2, 5)
    assert links(page)["next"] == "https://cubes.example/port/stac/collections?limit=2&token=abc"
    assert links(page)["self"] == "https://cubes.example/port/stac/collections?limit=2"
    last = stac.items(shown, [shown], SITE)
    assert last["type"] == "FeatureCollection"
    assert "next" not in links(last)
    assert "numberMatched" not in last
    assert [each["rel"] for each in last["links"]] == ["self", "root", "parent", "collection"]
    assert problems(last["features"][0], schemas) == []


def test_the_landing_page_is_a_catalog(schemas: Path) -> None:
    document = stac.catalog(SITE, [("sst", "Sea surface temperature"), ("wind", "")])
    assert problems(document, schemas) == []
    children = [each for each in document["links"] if each["rel"] == "child"]
    assert [each["href"] for each in children] == [
        f"https://cubes.example/port/stac/collections/{each}" for each in ("sst", "wind")
    ]
    assert all(each["title"] for each in children)
    assert document["conformsTo"] == stac.conformance()["conformsTo"]
    assert links(stac.catalog(SITE, [], path="/stac/catalog.json"))["self"].endswith("/stac/catalog.json")


REAL = [
    "A1B-99999a-river-sep-2070-2099.nc",
    "Arctic20_1to5Feb_2016.nc",
    "NO_TS_MO_FINO1_202209.nc",
    "PLANET_SCOPE_3D.nc",
    "analysed_sst.zarr",
    "archv_hycom.nc",
    "cmems_mod_bal_phy_anfc_P1D.nc",
    "croco_his.nc",
    "daily_surface_cancities_1990-1993.nc",
    "eraint_uvz.nc",
    "goes_Cloud_Top_Height.nc",
    "hadgem2_multi/tas_Amon_HadGEM2-ES_rcp85_200512-203011.nc",
    "landCoverFrac_Lmon_IPSL_201501.nc",
    "lfric_ngvat_2D_72t.nc",
    "msftmz_Omon_NorCPM1_185001.nc",
    "outCSne30_timeseries.nc",
    "roms_multi/Nordic_subset_day1.nc",
    "sic_SImon_CanESM5_2020.nc",
    "small_FC_167_mon_19601101.nc",
    "small_rotPole_precipitation.nc",
    "small_theta_colpex.nc",
    "sst_CMIP6_ssp245_mon_201501-210012.nc",
    "tas_ANT-44_HIRHAM5_20060101.nc",
    "tasmax_day_HadGEM2-CC_360day_2095.nc",
    "test_lcc.nc",
    "tmean_1910_1910.nc",
    "tmmx_20190121.nc",
    "tos_Omon_CNRM-CM6-1_ssp245_201501.nc",
]


@pytest.mark.parametrize("name", REAL)
def test_documents_of_real_files_validate(opened: Callable[[str], xr.Dataset], schemas: Path, name: str) -> None:
    raw = opened(name)
    before = {key: list(variable.attrs) for key, variable in raw.variables.items()}
    shown = shown_of(raw)
    assert {key: list(variable.attrs) for key, variable in raw.variables.items()} == before
    collection, item = stac.collection(shown, SITE), stac.item(shown, SITE)
    assert problems(collection, schemas) == []
    assert problems(item, schemas) == []
    used = {d for each in collection["cube:variables"].values() for d in each["dimensions"]}
    assert used == set(collection["cube:dimensions"])


def test_every_real_file_that_is_accepted_can_be_sealed(opened: Callable[[str], xr.Dataset], realdata: Path, schemas: Path) -> None:
    names = [str(p.relative_to(realdata)) for pattern in ("*.nc", "*_multi/*.nc") for p in sorted(realdata.glob(pattern))]
    sealed = 0
    for name in names:
        if name in REAL:
            continue
        raw = opened(name)
        try:
            check(raw)
        except SourceRejected:
            continue
        shown = shown_of(raw)
        assert problems(stac.collection(shown, SITE), schemas) == [], name
        assert problems(stac.item(shown, SITE), schemas) == [], name
        sealed += 1
    assert sealed > 20


def test_axes_of_every_kind_have_their_type(opened: Callable[[str], xr.Dataset]) -> None:
    def dimensions(name: str) -> dict[str, Any]:
        found: dict[str, Any] = stac.collection(shown_of(opened(name)), SITE)["cube:dimensions"]
        return found

    ocean = dimensions("cmems_mod_bal_phy_anfc_P1D.nc")
    assert (ocean["depth"]["type"], ocean["depth"]["axis"]) == ("spatial", "z")
    assert "positive down" in ocean["depth"]["description"]
    assert len(ocean["depth"]["values"]) == 29
    members = dimensions("sst_CMIP6_ssp245_mon_201501-210012.nc")
    assert members["member"]["type"] == "ensemble"
    assert len(members["member"]["values"]) == 20
    assert members["time"]["step"] == "P1M"
    kinds = dimensions("landCoverFrac_Lmon_IPSL_201501.nc")
    assert (kinds["type"]["type"], len(kinds["type"]["values"])) == ("nominal", 15)
    months = dimensions("eraint_uvz.nc")
    assert (months["month"]["type"], months["month"]["values"]) == ("ordinal", [1.0, 7.0])
    curved = dimensions("croco_his.nc")
    assert curved["eta_rho"]["type"] == "index"
    assert curved["eta_rho"]["extent"] == [0, 43]
    assert "lon_rho" in curved["eta_rho"]["description"]
    rotated = stac.collection(shown_of(opened("tas_ANT-44_HIRHAM5_20060101.nc")), SITE)
    assert rotated["proj:code"] is None
    assert rotated["proj:projjson"]["type"] == "DerivedGeographicCRS"
    assert rotated["proj:transform"][4] > 0  # stored south-up
    named = stac.collection(shown_of(opened("PLANET_SCOPE_3D.nc")), SITE)
    assert named["proj:code"] == "EPSG:32722"
    assert named["cube:dimensions"]["x"]["reference_system"] == 32722


def test_serving_documents_imports_nothing_heavy() -> None:
    code = (
        "import sys; import cubeport.documents.stac, cubeport.cubes.description, cubeport.cubes.periods; "
        "print(sorted({'numpy', 'xarray', 'pystac', 'xstac', 'pyproj', 'shapely', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extent", "spatial", "bbox"), [[0.0, 1.0, 2.0]]),
        (("extent", "temporal", "interval"), [["2024", None]]),
        (("cube:dimensions", "lat", "extent"), [None, 1.0]),
        (("cube:dimensions", "lon", "axis"), "longitude"),
        (("cube:variables", "sst", "type"), "gridded"),
        (("cube:variables", "sst", "data_type"), "float"),
        (("proj:shape",), [1.5, 2]),
        (("assets", "zarr", "zarr:zarr_format"), "3"),
        (("assets", "manifest", "file:checksum"), "sha256:XYZ"),
        (("renders", "sst", "rescale"), [1, 2]),
        (("sci:doi",), "doi.org/10.1"),
        (("version",), 3),
        (("license",), None),
        (("links",), [{"rel": "self"}]),
    ],
)
def test_the_validator_finds_what_is_wrong(schemas: Path, path: tuple[str, ...], value: Any) -> None:
    document = json.loads(json.dumps(stac.collection(shown_of(SMALL), SITE)))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert problems(document, schemas) != []
