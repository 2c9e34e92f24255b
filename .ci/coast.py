"""Make ``coast-50m.npz``, the coast of maps that are zoomed in, from Natural Earth: ``python .ci/coast.py land-50m.json``.

The argument is a file of the npm package ``world-atlas`` (``npm pack world-atlas@2.0.2``). Lines are simplified to 0.02 degrees
(about 2 km) and stored in hundredths of a degree: the first point of each line, then steps.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely

TO = Path(__file__).resolve().parents[1] / "src" / "cubeport" / "cubes" / "pictures" / "coast-50m.npz"


def arcs(world: dict[str, Any]) -> list[np.ndarray]:
    """Return the lines of the land in degrees, each once (TopoJSON 1.0, 2.1.4)."""
    scale, origin = (np.array(world["transform"][each]) for each in ("scale", "translate"))
    used: set[int] = set()

    def walk(part: Any) -> None:
        if isinstance(part, int):
            used.add(part if part >= 0 else ~part)
        else:
            for each in part:
                walk(each)

    for land in world["objects"]["land"]["geometries"]:
        walk(land["arcs"])
    return [np.cumsum(np.array(world["arcs"][each]), axis=0) * scale + origin for each in sorted(used)]


def pieces(line: np.ndarray) -> list[np.ndarray]:
    """Return a line without its parts along the antimeridian and the south pole, which are no coast."""
    jumps = np.flatnonzero(np.abs(np.diff(line[:, 0])) > 180.0)
    # A line that jumps from 179.9 to -180 ends at 180, and one from -180 to 179.9 begins there.
    ends = np.where(np.abs(line[jumps, :1]) > 179.99, line[jumps], line[jumps + 1])
    line = np.insert(line, jumps + 1, ends * [-1, 1], axis=0)
    edge = (np.abs(line[:, 0]) > 179.99) | (line[:, 1] < -89.9)
    return np.split(line, np.flatnonzero(edge[:-1] & edge[1:]) + 1)


steps, counts = [], []
for line in arcs(json.loads(Path(sys.argv[1]).read_text())):
    for piece in pieces(line):
        if len(piece) < 2:
            continue
        points = np.round(np.array(shapely.simplify(shapely.LineString(piece), 0.02).coords) * 100).astype("int16")
        points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]]
        if len(points) > 2:
            steps.append(np.diff(points, axis=0, prepend=np.zeros((1, 2), "int16")))
            counts.append(len(points))
np.savez_compressed(TO, steps=np.concatenate(steps), counts=np.array(counts, "int32"))
sys.stdout.write(f"{TO}: {sum(counts)} points in {len(counts)} lines, {TO.stat().st_size} bytes\n")
