"""Every real file: whatever the gate lets in is described, estimated, answered in both forms, and downloaded as it was."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from jsonschema.validators import validator_for

from cubeport.errors import SourceRejected

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")]
FOLDER = Path(os.environ.get("CUBEPORT_REALDATA", Path(__file__).parents[2] / "../shared/data"))
FILES = (
    sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.nc") if "corrupt" not in path.parts) if FOLDER.is_dir() else []
)


@pytest.mark.parametrize("name", FILES)
def test_every_file(name: str, client: httpx.Client, stored: Any, realdata: Path, schemas: Path) -> None:
    try:
        cube = stored(name)
    except SourceRejected as refused:
        pytest.skip(f"refused: {refused.reason}")
    base = f"/ogcapi/collections/{cube.dataset_id}"
    assert client.get(base).status_code == client.get(f"{base}/schema").status_code == 200
    told = client.get(f"{base}/coverage", params={"estimate": "true"})
    if told.status_code == 404:
        assert 0 in cube.description.variable(cube.description.fields[0]).shape
        return
    assert told.status_code == 200, told.text
    query: list[tuple[str, str]] = [("properties", cube.description.fields[0])]
    for axis in cube.description.axes:
        labels = cube.open().labels().values.get(axis.name)
        wanted = axis.dimension in cube.description.variable(cube.description.fields[0]).dimensions and not axis.scalar
        if not wanted or labels is None or axis.size < 3:
            continue
        if cube.description.temporal is not None and axis.name == cube.description.temporal.axis:
            query.append(("subset", f"{axis.name}(*)"))
        elif labels.dtype.kind in "iuf":
            low, high = sorted((float(labels[axis.size // 2]), float(labels[axis.size // 2 + 1])))
            query.append(("subset", f"{axis.name}({low!r}:{high!r})"))
        else:
            query.append(("subset", f'{axis.name}("{labels[1]}")'))
    answer = client.get(f"{base}/coverage", params=query)
    if answer.status_code != 406:
        if answer.status_code == 413:
            pytest.skip("over a limit even so")
        assert answer.status_code == 200, answer.text
        schema = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())
        if len(answer.content) < 500_000:
            assert list(validator_for(schema)(schema).iter_errors(answer.json())) == []
    assert client.get(f"{base}/coverage", params=[*query, ("f", "netcdf")]).status_code == 200
    whole = client.get(f"/datasets/{cube.dataset_id}/download")
    assert whole.status_code == 200, whole.text
    raw: dict[str, Any] = {"decode_cf": False}
    with (
        xr.open_dataset(io.BytesIO(whole.content), engine="h5netcdf", **raw) as ours,
        xr.open_dataset(realdata / name, engine="netcdf4", **raw) as theirs,
    ):
        for each in ours.variables:
            # Months since are written as days when they come in, and that is reported: months have no length.
            repaired = each in theirs.variables and str(theirs[each].attrs.get("units")).startswith("months since")
            if each in theirs.variables and theirs[each].dtype.kind in "iuf" and not repaired:
                a, b = ours[each].values, theirs[each].values
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), each
