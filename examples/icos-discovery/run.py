"""A registry of persistent identifiers, found offline by station, time and place. Needs `pip install cubeport`."""

import socket
from pathlib import Path

from cubeport import Catalog
from cubeport.errors import CubeportError

Path("work").mkdir()


def refuse(*arguments, **more):
    raise AssertionError("the network was used")


socket.socket.connect = refuse  # to show that no call is made

STATIONS = {"HTM": (13.42, 56.10), "JFJ": (7.99, 46.55), "MHD": (-9.90, 53.33)}

with Catalog.create("work/catalog") as catalog:
    for number, (station, (longitude, latitude)) in enumerate(STATIONS.items()):
        for gas, height in (("co2", 10), ("ch4", 10)):
            pid = f"hdl:11676/example-{station.lower()}-{gas}"
            catalog.add_artifact(
                {"station": station, "species": gas, "inlet_m": height, "level": 2},
                locator=pid,  # where the bytes are: opened by nobody until `fetch`
                key=pid,
                kind="external",
                title=f"{gas.upper()} at {station}",
                time=f"{2015 + number}/2023",
                bbox=(longitude, latitude, longitude, latitude),
            )
    # What is made of it here names the identifier, and is found from it.
    mean = catalog.add(
        {"statistic": "mean"}, title="Mean CO2 at Mace Head", lineage=[("derived_from", "hdl:11676/example-mhd-co2")]
    )

    print("CO2:", [record.key for record in catalog.search(species="co2", order=("key",))])
    print("before 2016:", sorted(record.title for record in catalog.search(time="../2015", kinds=["external"])))
    print("Ireland:", sorted(record.title for record in catalog.search(bbox=(-11, 51, -5, 56))))
    record = catalog.get("hdl:11676/example-mhd-co2")
    print("where:", record.artifacts[0].locator.uri, record.artifacts[0].status)
    print("derived here:", [catalog.get(edge.source).title for edge in catalog.lineage(record, direction="down").edges])
    print("comes from:", [catalog.get(edge.target).key for edge in catalog.lineage(mean, direction="up").edges])
    print("text:", [found.title for found in catalog.search(text="jfj ch4")])
    try:
        record.path()
    except CubeportError as problem:
        print("its bytes:", problem.kind)
