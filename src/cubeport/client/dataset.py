"""A dataset of a service, and a selected part of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.client._http import HttpSession
from cubeport.cubes.readers import reader
from cubeport.errors import ExtraMissing, InvalidRequest

if TYPE_CHECKING:
    import xarray as xr


class Dataset:
    """One dataset of a service, pinned to the version that was published when you requested it."""

    def __init__(self, session: HttpSession, ref: str, summary: Mapping[str, Any]) -> None:
        self._session = session
        self._summary = summary
        self.id: str = summary["dataset_id"]
        self.version: str = _version(session, ref, summary)
        """The id of the version. What you open and select never changes, even if other versions are published meanwhile."""

    @property
    def title(self) -> str:
        """The title."""
        return str(self._summary["dataset_name"])

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the data variables."""
        return tuple(each["name"] for each in self._summary["variables"])

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north edges of the cells in degrees (CRS84), or ``None`` if the dataset has no place."""
        extent = self._summary["extent"]
        space = extent.get("spatial_wgs84") or extent.get("spatial")
        return None if space is None else (space["xmin"], space["ymin"], space["xmax"], space["ymax"])

    @property
    def time(self) -> tuple[str, str] | None:
        """The first and the last period, or ``None`` if the dataset has no time."""
        span = self._summary["extent"].get("temporal")
        return None if span is None else (span["start"], span["end"])

    def __repr__(self) -> str:
        span = " to ".join(self.time) if self.time else "no time"
        return f"<cubeport.Dataset {self.id}: {self.title} ({', '.join(self.variables)}; {span})>"

    @property
    def stac(self) -> Mapping[str, Any]:
        """The STAC Collection of this version."""
        document: Mapping[str, Any] = self._session.json(f"/stac/collections/{self.id}@{self.version}")
        return document

    def diff(self, other: str | Dataset) -> Mapping[str, Any]:
        """Return the changes from *other* (a version id, a tag or an older state of this dataset) to this version.

        Raises
        ------
        NotFound
            If there is no such version.
        TooLarge
            If comparing them would read more values than the service allows for one answer.
        """
        old = other.version if isinstance(other, Dataset) else other
        query = {"from": old, "to": self.version}
        document: Mapping[str, Any] = self._session.json(f"/datasets/{self.id}/diff", **query)
        return document

    def open(self) -> xr.Dataset:
        """Open the whole dataset lazily. Chunks are read when you need them, always from this version.

        Raises
        ------
        ExtraMissing
            If the extra ``client`` is not installed.
        """
        xarray = _xarray()
        asset = self.stac["assets"]["zarr"]
        # By its class: xarray would load every installed backend for a name, which takes seconds where ecCodes is one (adr/0018).
        said = {**asset["xarray:open_kwargs"], "engine": reader("zarr")}
        opened: xr.Dataset = xarray.open_dataset(asset["href"], **said)
        return opened

    def select(
        self, *, variables: str | Sequence[str] | None = None, time: str | None = None, box: Sequence[float] | None = None
    ) -> Selection:
        """Select a part of the dataset, without reading it. The service cuts it out, by the same rules as for all its faces.

        Parameters
        ----------
        variables
            A name or several names. Default: all variables.
        time
            An RFC 3339 instant, or an interval ``a/b`` with both ends included. A date, a month or a year means its whole span.
        box
            West, south, east, north in degrees (CRS84). Selects the cells that meet the box; west > east crosses the antimeridian.
        """
        names = (variables,) if isinstance(variables, str) else variables
        if box is not None and len(box) != 4:
            raise InvalidRequest("box takes west, south, east, north in degrees.")
        query = {
            "bbox": ",".join(repr(float(each)) for each in box) if box is not None else None,
            "datetime": time,
            "variables": ",".join(names) if names is not None else None,
        }
        return Selection(self._session, f"/datasets/{self.id}@{self.version}/download", query)


class Selection:
    """A part of one version of a dataset."""

    def __init__(self, session: HttpSession, path: str, query: Mapping[str, str | None]) -> None:
        self._session = session
        self._path = path
        self._query = query

    def __repr__(self) -> str:
        return f"<cubeport.Selection {self.url()}>"

    def url(self, f: str = "netcdf") -> str:
        """Return the address of this part in the form *f* (``netcdf``, ``csv``). It always returns the same values."""
        return self._session.address(self._path, format=f, **self._query)

    def cost(self) -> Mapping[str, Any]:
        """Return the number of cells and bytes, without reading any value."""
        estimate: Mapping[str, Any] = self._session.json(self._path, **self._query, estimate="true")
        return estimate

    def load(self) -> xr.Dataset:
        """Download this part with all its values.

        Raises
        ------
        TooLarge
            If the part is over a limit; the error lists smaller alternatives.
        ExtraMissing
            If the extra ``client`` is not installed.
        """
        xarray = _xarray()
        file = io.BytesIO(self._session.get(self._path, {**self._query, "format": "netcdf"}))
        with xarray.open_dataset(file, engine=reader("h5netcdf")) as opened:
            loaded: xr.Dataset = opened.load()
        return loaded

    def save(self, path: str | Path) -> Path:
        """Download this part to *path*, as NetCDF or CSV according to the suffix, and return the path."""
        target = Path(path)
        f = {".nc": "netcdf", ".csv": "csv"}.get(target.suffix)
        if f is None:
            raise InvalidRequest(f"{target.name} ends in neither .nc nor .csv.", next_step="save('part.nc')")
        target.write_bytes(self._session.get(self._path, {**self._query, "format": f}))
        return target


def _version(session: HttpSession, ref: str, summary: Mapping[str, Any]) -> str:
    if "@" in ref:
        return str(session.json(f"/datasets/{summary['dataset_id']}/versions/{ref.partition('@')[2]}")["version_id"])
    return str(summary["latest_version"])


def _xarray() -> Any:
    try:
        import aiohttp  # noqa: F401 - fsspec, which reads the chunks, takes it by name
        import h5netcdf  # noqa: F401 - as xarray does
        import xarray
        import zarr  # noqa: F401 - as above
    except ModuleNotFoundError as exc:
        raise ExtraMissing(
            f"Opening data needs {exc.name}, which is not installed.", next_step="pip install 'cubeport[client]'", what="client"
        ) from exc
    return xarray
