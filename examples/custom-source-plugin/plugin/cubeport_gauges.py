"""A source for cubeport: text files of rain gauges, one a month, in a format of their own."""

from pathlib import Path

import numpy as np
import xarray as xr

from cubeport.cubes.sources import Fetched
from cubeport.errors import InvalidRequest, NoData


class GaugeSource:
    """Reads `YYYYMM.txt`: a line for each row of cells, north first, in millimetres."""

    max_concurrency = 2

    def __init__(self, params):
        if set(params) != {"folder"}:
            raise InvalidRequest("gauges takes params.folder, where the text files are.")
        self.folder = Path(params["folder"])

    def periods(self, start, end):
        """Return the months that have a file."""
        months = (start.moved(n) for n in range(end.number - start.number + 1))
        return [month for month in months if self._file(month).exists()]

    def fetch_period(self, period, area, into):
        """Write the month as NetCDF into the folder that cubeport gives."""
        try:
            rain = np.loadtxt(self._file(period), dtype="f4", ndmin=2)
        except FileNotFoundError:
            raise NoData(f"There is no file of {period}.") from None
        time = [np.datetime64(f"{period}-01", "ns")]
        lat, lon = 50.0 - np.arange(rain.shape[0]), 5.0 + np.arange(rain.shape[1])
        data = xr.DataArray(rain[None], {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon"), name="rain")
        data.attrs = {"units": "mm", "standard_name": "precipitation_amount", "cell_methods": "time: sum"}
        data.lat.attrs, data.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
        file = into / f"rain_{period}.nc"
        data.to_netcdf(file, encoding={"time": {"units": "days since 2000-01-01", "dtype": "int64"}})
        return Fetched((file,), validator=self.validator(period))

    def validator(self, period):
        """Return what changes when the file does, so that a later sync sees it."""
        try:
            return str(self._file(period).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def _file(self, period):
        return self.folder / f"{str(period).replace('-', '')}.txt"


def register(registry):
    """Called by cubeport when it loads its plugins."""
    registry.source("gauges", GaugeSource)
