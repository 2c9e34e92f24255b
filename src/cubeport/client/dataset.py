"""A dataset of a service, and a selected part of it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from cubeport.client._http import Session
from cubeport.client.selecting import asked, taken
from cubeport.cubes.readers import reader
from cubeport.errors import ExtraMissing, InvalidRequest, NotFound

if TYPE_CHECKING:
    import xarray as xr

    from cubeport.client.notebook import Picture

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

_SAID = {
    "datetime": "time",
    "bbox": "box",
    "properties": "variables",
    "parameter-name": "variables",
    "z": "level",
    "coords": "place",
    "subset": "axes",
}
"""What ``select`` calls the parameters of addresses."""

_UNOPENED = "Its .open() returns an xarray.Dataset, and .select(variables=…, time=…, box=…) a part of it."


class Dataset:
    """One dataset of a service, pinned to the version that was published when you requested it."""

    def __init__(self, session: Session, ref: str, summary: Mapping[str, Any]) -> None:
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
        if (space := extent.get("spatial")) is None and extent.get("spatial_wgs84") is None:
            return None
        # Of a projected grid, the box in degrees is a list, and the other one is in its own units.
        west, south, east, north = extent.get("spatial_wgs84") or (space[each] for each in ("xmin", "ymin", "xmax", "ymax"))
        return west, south, east, north

    @property
    def time(self) -> tuple[str, str] | None:
        """The first and the last period, or ``None`` if the dataset has no time."""
        span = self._summary["extent"].get("temporal")
        return None if span is None else (span["start"], span["end"])

    @property
    def calendar(self) -> str | None:
        """The CF calendar of the times, or ``None`` if the dataset has no time."""
        found: str | None = self._session.json(f"/datasets/{self.id}@{self.version}")["calendar"]
        return found

    if not TYPE_CHECKING:  # a checker of types must still find the wrong name

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"A dataset of a service has no {name!r}. {_UNOPENED}", name=name, obj=self)

        def __getitem__(self, key: object) -> NoReturn:
            raise TypeError(f"A dataset of a service has no [{key!r}]. {_UNOPENED}")

        __iter__ = None
        __contains__ = None

    def __repr__(self) -> str:
        from cubeport.client.notebook import span

        return f"<cubeport.Dataset {self.id}: {self.title} ({', '.join(self.variables)}; {span(self.time) or 'no time'})>"

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

    def open(self, *, chunks: Mapping[str, int] | Literal["auto"] | None = None) -> xr.Dataset:
        """Open the whole dataset lazily. Chunks are read when you need them, always from this version.

        Parameters
        ----------
        chunks
            As ``xarray.open_dataset`` takes it: ``{}`` for arrays of dask with the chunks of the store. Default: without dask.

        Raises
        ------
        ExtraMissing
            If the extra ``client`` is not installed.
        """
        _xarray()
        return self._session.opened(self.stac["assets"]["zarr"], dataset_id=self.id, version_id=self.version, chunks=chunks)

    def select(
        self,
        *,
        variables: str | Sequence[str] | None = None,
        time: str | slice | None = None,
        box: Sequence[float] | None = None,
        level: float | str | None = None,
        at: Sequence[float] | None = None,
        area: Any = None,
        along: Any = None,
        **axes: float | str,
    ) -> Selection:
        """Select a part of the dataset, without reading it. The service cuts it out, by the same rules as for all its faces.

        Parameters
        ----------
        variables
            A name or several names. Default: all variables.
        time
            An RFC 3339 instant, or an interval ``a/b`` with both ends included. A date, a month or a year means its whole span.
            ``slice(a, b)``, as xarray writes it, is the same as ``a/b``.
        box
            West, south, east, north in degrees (CRS84). Selects the cells that meet the box; west > east crosses the antimeridian.
        level
            One level of the vertical axis: its label.
        at
            Longitude and latitude in degrees: the cell that contains the place.
        area
            A polygon: well-known text, or anything with ``__geo_interface__``. Cells whose centre is outside are missing.
        along
            A line: well-known text, pairs of longitude and latitude, or anything with ``__geo_interface__``. Selects the cells that
            it crosses, in its order.
        axes
            One label of each other axis: ``member=3``.

        Raises
        ------
        InvalidRequest
            If more than one of *box*, *at*, *area* and *along* is given, or one of them is not valid.
        """
        kind, query = asked(variables=variables, time=time, box=box, level=level, at=at, area=area, along=along, axes=axes)
        whole = f"{self.id}@{self.version}"
        if kind == "download":
            return Selection(self, f"/datasets/{whole}/download", query, form="format")
        return Selection(self, f"/ogcapi/collections/{whole}/{kind}", query, form="f")

    # --- tables and pictures ---

    def table(
        self,
        zones: str | Mapping[str, Any] | Any,
        *,
        period: str | None = None,
        statistic: str | Sequence[str] | None = None,
        time: str | None = None,
        variables: str | Sequence[str] | None = None,
        zone: Sequence[str] | None = None,
        **options: str | float,
    ) -> Any:
        """Return a value for each zone and period: a pandas DataFrame if pandas is installed, otherwise a list of rows.

        With ``f``, return the table in that form, as text.

        ::

            data.table("districts", period="month", statistic="mean", relative_to="1991/2020")

        Parameters
        ----------
        zones
            The id of a zone set of the service, or polygons of your own: a GeoJSON FeatureCollection, or anything with
            ``__geo_interface__``, such as a GeoDataFrame.
        period
            ``as-stored`` (the default), ``day``, ``week``, ``dekad``, ``month``, ``quarter``, ``season``, ``year``.
        statistic
            ``mean`` (the default), ``sum``, ``min``, ``max``, ``median``, ``p95`` and so on; one or several.
        time
            Which times; a period that meets it is whole.
        options
            ``relative_to, departure, min_share, period_statistic, z, subset, id_property, name_property``; ``f`` for the text of
            another form, such as ``csv-wide``, ``geojson``, ``chap`` or ``dhis2``.

        Raises
        ------
        InvalidRequest, NotFound, TooLarge, NoData
        """
        query: dict[str, object] = {
            "f": "json",
            "period": period,
            "statistic": _listed(statistic),
            "datetime": time,
            "variables": _listed(variables),
            "zone": _listed(zone),
            **{name if name.endswith("_property") else name.replace("_", "-"): value for name, value in options.items()},
        }
        path = f"/datasets/{self.id}@{self.version}/table"
        if isinstance(zones, str):
            answer = self._session.get(path, {**query, "zones": zones})
        else:
            document = zones if isinstance(zones, Mapping) else zones.__geo_interface__
            given = {name: value for name, value in query.items() if value is not None}
            body = json.dumps(document).encode()
            answer = self._session.send("POST", path, given, body=body, media_type="application/geo+json")
        if query["f"] != "json":
            return answer.decode()
        rows = json.loads(answer)["rows"]
        try:
            import pandas as pd
        except ModuleNotFoundError:
            return rows
        return pd.DataFrame(rows, columns=["zone", "name", "period", "variable", "statistic", "value", "cells", "share"])

    def map(
        self, variable: str | None = None, *, time: str | None = None, box: Sequence[float] | None = None, width: int = 800
    ) -> Picture:
        """Return a map of one variable at one time, drawn by the service. A notebook shows it.

        Parameters
        ----------
        box
            West, south, east, north in degrees. Default: all of the data.
        width
            In pixels.
        """
        query = {
            "properties": variable,
            "datetime": time,
            "bbox": ",".join(repr(float(each)) for each in box) if box is not None else None,
            "width": width,
        }
        return self._picture(f"/ogcapi/collections/{self.id}@{self.version}/map", query, "image/png")

    def plot(
        self,
        at: Sequence[float] | None = None,
        variable: str | None = None,
        *,
        time: str | None = None,
        level: float | str | None = None,
        relative_to: str | None = None,
        departure: str | None = None,
    ) -> Picture:
        """Return a plot of one variable over time at a place (longitude, latitude in degrees). A notebook shows it.

        Parameters
        ----------
        at
            Leave it out for data without a place, such as an index.
        relative_to
            The years of a normal, such as ``1991/2020``: the plot then shows the departures from it.
        departure
            ``absolute`` (the default), ``percent`` or ``standard``.
        """
        query = {
            "at": None if at is None else ",".join(repr(float(each)) for each in at),
            "v": variable,
            "t": time,
            "z": level,
            "relative-to": relative_to,
            "departure": departure,
        }
        return self._picture(f"/datasets/{self.id}@{self.version}/plot", query, "image/svg+xml")

    def _picture(self, path: str, query: Mapping[str, object], media_type: str) -> Picture:
        from cubeport.client.notebook import Picture

        return Picture(self._session.get(path, query, accept=media_type), media_type, self._session.address(path, **query))

    def cite(self, form: str = "text") -> str:
        """Return the citation of this version, as ``text`` or ``bibtex``.

        Raises
        ------
        InvalidRequest
            For another form.
        """
        found = self._session.json(f"/datasets/{self.id}@{self.version}/citation")
        if form not in found:
            raise InvalidRequest(f"cite takes {' or '.join(found)}.")
        return str(found[form])

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        detail = self._session.json(f"/datasets/{self.id}@{self.version}")
        facts = [
            *([notebook.span(self.time)] if self.time else []),
            f"version {self.version[:8]}",
            f"licence {detail['license'] or 'not stated'}",
        ]
        try:
            picture: bytes | None = self._session.get(f"/datasets/{self.id}@{self.version}/thumbnail.png", {}, accept="image/png")
        except NotFound:
            picture = None  # it has no place
        return notebook.dataset(
            self.title, facts, detail["variables"], picture=picture, reference=self._session.address(f"/datasets/{self.id}")
        )

    # --- versions, and what a key may do ---

    def versions(self) -> list[Mapping[str, Any]]:
        """Return the versions, newest first: ``version_id, created_at, kind, tags, state``."""
        found: list[Mapping[str, Any]] = self._session.json(f"/datasets/{self.id}/versions", limit=1000)["items"]
        return found

    def tag(self, name: str, *, force: bool = False) -> dict[str, Any]:
        """Name this version; return its document. This needs a key. Raises TagExists if another version has the name, unless
        *force*.
        """
        body = json.dumps({"version": self.version, "force": force}).encode()
        found: dict[str, Any] = json.loads(self._session.send("PUT", f"/datasets/{self.id}/tags/{name}", body=body))
        return found

    def describe(self, **texts: Any) -> None:
        """Set texts (``title``, ``description``, ``license``, ``keywords`` …); ``None`` resets a text. This needs a key."""
        self._session.send("PATCH", f"/datasets/{self.id}", body=json.dumps(texts).encode())

    def publish(self) -> None:
        """Publish this version on every face. This needs a key."""
        self._session.send("POST", f"/datasets/{self.id}/publish", body=json.dumps({"version": self.version}).encode())

    def unpublish(self) -> None:
        """Remove the dataset from every face, but keep its data. This needs a key."""
        self._session.send("POST", f"/datasets/{self.id}/unpublish")

    def rollback(self) -> None:
        """Make this version the published one again. This needs an admin key."""
        self._session.send("POST", f"/datasets/{self.id}/rollback", body=json.dumps({"to": self.version}).encode())


class Selection:
    """A part of one version of a dataset."""

    def __init__(self, data: Dataset, path: str, query: Mapping[str, str | None], *, form: str) -> None:
        self._data = data
        self._session = data._session  # noqa: SLF001 (a part of its dataset)
        self._path = path
        self._query = query
        self._form = form
        """What the address calls the parameter of the form."""

    def __repr__(self) -> str:
        return f"<cubeport.Selection {self.url()}>"

    def _repr_html_(self) -> str:
        from cubeport.client import notebook

        asked = [(_SAID.get(name, name), value) for name, value in self._query.items() if value is not None]
        try:
            price = self.price()
        except (InvalidRequest, NotFound) as exc:
            return notebook.part(self._data.title, asked, str(exc), ())
        # A dimension of which single cells are taken here and there is not named.
        sizes = {name: sum(stop - start for start, stop, *_ in runs) for name, runs in price["windows"].items()}
        said = [
            *([" × ".join(f"{name} {count:,}" for name, count in sizes.items())] if sizes else []),
            f"{price['cells']:,} cells, {price['bytes'] / 1e6:.3g} MB",
        ]
        if not price["allowed"]:
            return notebook.part(self._data.title, asked, " · ".join([*said, "more than the service sends at once"]), ())
        return notebook.part(self._data.title, asked, " · ".join(said), [("NetCDF", self.url()), ("CSV", self.url("csv"))])

    def url(self, f: str = "netcdf") -> str:
        """Return the address of this part in the form *f* (``netcdf``, ``csv``). It always returns the same values."""
        return self._session.address(self._path, **{self._form: f}, **self._query)

    def price(self) -> Mapping[str, Any]:
        """Return the number of cells and bytes, without reading any value."""
        estimate: Mapping[str, Any] = self._session.json(self._path, **{self._form: "netcdf"}, **self._query, estimate="true")
        return estimate

    def load(self, way: Literal["cheaper", "server", "zarr"] = "cheaper") -> xr.Dataset:
        """Return this part with all its values.

        Parameters
        ----------
        way
            ``server`` downloads the part that the service cuts out. ``zarr`` reads the chunks themselves, by the indices that the
            service names, so the values are the same. ``cheaper`` takes the server, and Zarr for what is over its limits.

        Raises
        ------
        TooLarge
            If the part is over a limit of the service and *way* is ``server``; the error lists smaller alternatives.
        InvalidRequest
            If *way* is ``zarr`` and the part is no range of each dimension: an area hides cells of its box, and a box those of a
            curvilinear or rotated grid that are outside.
        ExtraMissing
            If the extra ``client`` is not installed.
        """
        xarray = _xarray()
        if way == "cheaper":
            price = self.price()
            way = "server" if price["allowed"] or price.get("hides") else "zarr"
        if way == "zarr":
            return self._through_zarr()
        content = self._session.get(self._path, {**self._query, self._form: "netcdf"})
        with xarray.open_dataset(io.BytesIO(content), engine=reader("h5netcdf")) as opened:
            loaded: xr.Dataset = opened.load()
        return loaded

    def _through_zarr(self) -> xr.Dataset:
        """Return the part, read from the chunks. The windows of the estimate cut each dimension and shift the longitudes."""
        if self._path.endswith(("/area", "/trajectory")):
            raise InvalidRequest(
                "Only the server can read an area or a line: it is not a whole box.", next_step="load(way='server')"
            )
        price = self.price()
        if price.get("hides"):
            raise InvalidRequest(
                "Only the server can read a box of this grid: it hides the cells outside, which no rows and columns tell apart.",
                next_step="load(way='server'); or, of the dataset, open() for all of it",
            )
        windows: Mapping[str, Sequence[Sequence[float]]] = price["windows"]
        whole = self._data.open()
        names = self._query.get("variables") or self._query.get("properties") or self._query.get("parameter-name")
        cut = taken(whole[names.split(",")] if names else whole, windows)
        gone = [each for each in price.get("dropped", ()) if each in cut.dims]
        loaded: xr.Dataset = cut.isel(dict.fromkeys(gone, 0)).load()
        return loaded

    def to_dataframe(self) -> Any:
        """Return this part as a pandas DataFrame, a row for each cell.

        Times are ``datetime64``, in UTC without a time zone, as xarray has them. Times of other calendars (``360_day``, ``noleap``)
        and before 1582-10-15 remain text, because pandas would take them for other days.
        """
        import pandas as pd

        frame = pd.read_csv(io.BytesIO(self._session.get(self._path, {**self._query, self._form: "csv"})))
        times = [name for name in frame if _are_times(frame[name])]
        if times and self._data.calendar in ("standard", "gregorian", "proleptic_gregorian"):
            for name in times:
                frame[name] = pd.to_datetime(frame[name]).dt.tz_localize(None)
        return frame

    def map(self, time: str | None = None, *, width: int = 800) -> Picture:
        """Return a map of the first variable of this part at one time. A notebook shows it.

        Parameters
        ----------
        time
            Default: the time of this part, if it is one.

        Raises
        ------
        InvalidRequest
            If this part is a place, an area or a line, or has several times and none of them is named.
        """
        if "coords" in self._query:
            raise InvalidRequest("A map shows a box.", next_step="select(box=(west, south, east, north)).map()")
        query = {
            "properties": self._first(),
            "datetime": time or self._query.get("datetime"),
            "bbox": self._query.get("bbox"),
            "subset": self._query.get("subset"),
            "width": width,
        }
        data, during = self._data, time or str(self._query.get("datetime") or "")
        try:
            return data._picture(f"/ogcapi/collections/{data.id}@{data.version}/map", query, "image/png")  # noqa: SLF001
        except InvalidRequest as exc:
            if "/" in during and exc.next_step is None:
                last = during.rpartition("/")[2]
                exc.next_step = f"name one: map({'TIME' if last == '..' else last!r})"
            raise

    def plot(self) -> Picture:
        """Return a plot of the first variable of this part at its place, over its time. A notebook shows it.

        Raises
        ------
        InvalidRequest
            If this part is no place, and its data have places.
        """
        found = re.fullmatch(r"POINT\((\S+) (\S+)\)", self._query.get("coords") or "")
        if found is None and self._data.box is not None:
            raise InvalidRequest("A plot shows one place.", next_step="select(at=(longitude, latitude)).plot()")
        query = {
            "at": f"{found[1]},{found[2]}" if found is not None else None,
            "v": self._first(),
            "t": self._query.get("datetime"),
            "z": self._query.get("z"),
            "subset": self._query.get("subset"),
        }
        data = self._data
        return data._picture(f"/datasets/{data.id}@{data.version}/plot", query, "image/svg+xml")  # noqa: SLF001

    def _first(self) -> str | None:
        names = self._query.get("variables") or self._query.get("properties") or self._query.get("parameter-name")
        return names.split(",")[0] if names else None

    def save(self, path: str | Path) -> Path:
        """Download this part to *path*, as NetCDF, CSV or a Zarr folder according to the suffix, and return the path.

        Raises
        ------
        InvalidRequest
            If the suffix is another one, or a Zarr folder of that name exists.
        """
        target = Path(path)
        f = {".nc": "netcdf", ".csv": "csv", ".zarr": "zarr"}.get(target.suffix)
        if f is None:
            raise InvalidRequest(f"{target.name} does not end in .nc, .csv or .zarr.", next_step="save('part.nc')")
        if f == "zarr" and target.exists():
            raise InvalidRequest(f"{target} exists, and a Zarr store needs a new folder.", next_step="save it under another name")
        content = self._session.get(self._path, {**self._query, self._form: f})
        if f == "zarr":
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                packed.extractall(target)
        else:
            target.write_bytes(content)
        return target


def _are_times(column: Any) -> bool:
    """Return whether each value of a column is a time, as answers write it, that is the same day in pandas."""
    texts = list(column)
    return bool(texts) and all(isinstance(each, str) and _TIME.fullmatch(each) and each >= "1582-10-15" for each in texts)


def _version(session: Session, ref: str, summary: Mapping[str, Any]) -> str:
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


def _listed(names: str | Sequence[str] | None) -> str | None:
    return names if names is None or isinstance(names, str) else ",".join(names)
