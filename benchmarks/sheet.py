"""Make a sheet of pictures of real datasets, each under the coast line, to be looked at: ``python benchmarks/sheet.py FOLDER OUT``.

FOLDER has the files (``CUBEPORT_REALDATA``). OUT gets an instance with all of them (kept: a second run only draws), ``sheet.html``
and, if Chromium is installed, ``sheet.png``. Look for a picture that is flipped, shifted by half a cell, cut at a seam, or without
contrast.
"""

from __future__ import annotations

import base64
import contextlib
import html
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

PORT = 8765
ASSETS = Path(cubeport.__file__).parent / "server/assets"
FILES = {
    "regular 0–360, north-up": "SMALL_total_column_co2.nc",
    "regular, south-up": "coads_sst.nc",
    "regular 0–360, mask": "basin_mask.nc",
    "pressure levels, −180–180": "eraint_uvz.nc",
    "regional": "cmems_mod_bal_phy_anfc_P1D.nc",
    "bathymetry": "gebco_2020.nc",
    "365_day, yearly": "CMIP5_rcp8.5_PCP_pctl25_P1Y.nc",
    "360_day": "tasmax_day_HadGEM2-CC_360day_2095.nc",
    "one cell's row": "sst_CMIP6_ssp245_mon_201501-210012.nc",
    "ensemble": "small_FC_167_mon_19601101.nc",
    "classes by text": "landCoverFrac_Lmon_IPSL_201501.nc",
    "Gaussian GRIB": "regular_gg.grib2",
    "reduced Gaussian GRIB": "reduced_gg.grib2",
    "HEALPix GRIB": "healpix_H8.grib2",
    "rotated GRIB": "rotated_nae.grib2",
    "polar stereographic GRIB, 3.7 M cells": "CMC_hrdps_ps2.5km.grib2",
    "polar stereographic, km": "Arctic20_1to5Feb_2016.nc",
    "polar stereographic, m": "polar_stereographic.nc",
    "LAEA": "euro_air_temp.nc",
    "Lambert": "test_lcc.nc",
    "British grid": "tmean_1910_1910.nc",
    "UTM": "PLANET_SCOPE_3D.nc",
    "rotated pole": "small_rotPole_precipitation.nc",
    "rotated over Antarctica": "tas_ANT-44_HIRHAM5_20060101.nc",
    "geostationary": "goes_Cloud_Top_Height.nc",
    "tripolar": "sic_SImon_CanESM5_2020.nc",
    "tripolar NEMO": "tos_Omon_CNRM-CM6-1_ssp245_201501.nc",
    "HYCOM": "archv_hycom.nc",
    "cubed sphere": "lfric_ngvat_2D_72t.nc",
    "stations": "daily_surface_cancities_1990-1993.nc",
    "gridMET": "tmmx_20190121.nc",
    "Zarr": "analysed_sst.zarr",
}


def names() -> dict[str, str]:
    return {label: f"d{number:02}" for number, label in enumerate(FILES)}


def coast(west: float, south: float, east: float, north: float) -> str:
    """Return the coast line of the box as SVG: degrees times ten, y down, one copy a turn."""
    text = (ASSETS / "coast.svg").read_text()
    path = text[text.index("<path") : text.rindex("</svg>")]
    turns = "".join(f'<g transform="translate({3600 * turn} 0)">{path}</g>' for turn in (-1, 0, 1))
    wide, high = (east - west) * 10, (north - south) * 10
    style = "<style>path{fill:none;stroke:#000;stroke-width:1.2;vector-effect:non-scaling-stroke}</style>"
    box = f"{west * 10} {-north * 10} {wide} {high}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" preserveAspectRatio="none">{style}{turns}</svg>'


def draw(url: str, out: Path) -> None:
    cells = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for label, name in names().items():
            found = client.get(f"/ogcapi/collections/{name}/map", params={"width": "420"})
            if found.status_code != 200:
                cells.append(
                    f"<figure><figcaption>{html.escape(label)}: {found.status_code} {found.text[:160]}</figcaption></figure>"
                )
                continue
            west, south, east, north = (float(each) for each in found.headers["content-bbox"].split(","))
            legend = (client.get(f"/datasets/{name}/legend", params={"f": "json"})).json()
            about = f"{legend['field']} {legend['range']} {legend['units'] or ''}; {west:g} {south:g} {east:g} {north:g}"
            about += f"; {found.headers.get('content-datetime', '')} {found.headers.get('cubeport-overview', '')}"
            picture = base64.b64encode(found.content).decode()
            cells.append(
                f'<figure><div><img src="data:image/png;base64,{picture}">{coast(west, south, east, north)}</div>'
                f"<figcaption><b>{html.escape(label)}</b> {html.escape(FILES[label])}<br>{html.escape(about)}</figcaption></figure>"
            )
    style = (
        "body{font:11px sans-serif;display:grid;grid-template-columns:repeat(4,1fr);gap:8px;background:#fff}figure{margin:0}"
        "div{position:relative;background:#eee}img{width:100%;max-height:300px;display:block;image-rendering:pixelated}"
        "svg{position:absolute;inset:0;width:100%;height:100%}"
    )
    (out / "sheet.html").write_text(
        f"<!doctype html><meta charset=utf-8><title>Sheet</title><style>{style}</style>{''.join(cells)}"
    )


def main(folder: Path, out: Path) -> None:
    root = out / "instance"
    if not root.exists():
        out.mkdir(exist_ok=True, parents=True)
        cubeport.Catalog.create(root).close()
        with cubeport.connect(root) as service:
            for label, name in names().items():
                files = FileOptions(files=(str(folder / FILES[label]),))
                done = service.ingest_here(IngestionRequest(dataset_id=name), files)
                print(name, label, done.status, done.error or "")
    serving = [sys.executable, "-m", "cubeport", "serve", "--instance", str(root), "--port", str(PORT)]
    with subprocess.Popen(serving, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as server:
        try:
            url = f"http://127.0.0.1:{PORT}"
            for _ in range(300):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                        break
                time.sleep(0.1)
            draw(url, out)
        finally:
            server.terminate()
    if shutil.which("chromium"):
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1720,2700"]
        subprocess.run(
            [*command, f"--screenshot={out / 'sheet.png'}", f"file://{out / 'sheet.html'}"], check=True, capture_output=True
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
