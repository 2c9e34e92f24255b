"""The output forms of values: their names, their limits, and their encoders.

To add a form, write a file in ``adapters/encoders`` with an ``ENCODER`` and one line in :data:`FORMS`. Negotiation, links, limits,
file names and the API definition use this line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cubeport.cubes.part import Deadline, Part

type Answer = bytes | BinaryIO
"""A complete answer: bytes, or an open file without a name."""


@dataclass(frozen=True, slots=True)
class Form:
    """One output form."""

    name: str
    """The value of ``f``."""
    title: str
    media_type: str
    suffix: str
    """The suffix of file names, without the dot."""
    limit: str
    """The setting below ``limits`` that limits its cells."""
    encoder: str
    """The module in ``adapters/encoders`` that writes it."""
    also: tuple[str, ...] = ()
    """Other values of ``f`` and other media types for the same form."""
    download: bool = False
    """Whether ``/datasets/{dataset_id}/download`` offers it, with a file name."""
    stored: bool = False
    """Whether it contains values as stored. Its downloads have all variables, and ``limits.download_cells`` limits them."""
    seconds: float = 1.0
    """The deadline of a download as a multiple of the usual deadline, because downloads can be large."""


FORMS: tuple[Form, ...] = (
    Form(
        "covjson", "CoverageJSON", "application/vnd.cov+json", "covjson", "json_cells", "covjson",
        also=("json", "coveragejson", "application/prs.coverage+json", "application/json"),
    ),
    Form(
        "netcdf", "NetCDF", "application/x-netcdf", "nc", "binary_cells", "netcdf",
        also=("netcdf4", "nc", "application/netcdf"), download=True, stored=True, seconds=10,
    ),
    Form("csv", "CSV", "text/csv", "csv", "csv_cells", "csv", download=True),
    Form(
        "geotiff", "GeoTIFF", "image/tiff; application=geotiff", "tif", "binary_cells", "geotiff",
        also=("tiff", "tif", "image/tiff", "gtiff"), download=True,
    ),
    Form(
        "zarr", "Zarr in a zip file", "application/zip", "zarr.zip", "binary_cells", "zarr",
        also=("zip", "application/zarr+zip"), download=True, stored=True, seconds=10,
    ),
)  # fmt: skip
"""All forms. The first is the default of coverages and EDR queries; the first with ``download`` is the default of downloads."""


PLOT = Form("svg", "Plot", "image/svg+xml", "svg", "json_cells", "plot")
"""The form of ``/datasets/{dataset_id}/plot``. It shows one field along one axis, so coverages and EDR queries do not offer it."""


GRIDDAP: tuple[Form, ...] = (
    Form("csv", "CSV of ERDDAP", "text/csv", "csv", "csv_cells", "griddap_csv"),
    Form("json", "JSON of ERDDAP", "application/json", "json", "json_cells", "griddap_json"),
    Form("nc", "NetCDF", "application/x-netcdf", "nc", "binary_cells", "netcdf"),
)
"""The forms of ``/griddap``, by the ending of the address."""


def downloads() -> tuple[Form, ...]:
    """Return the forms of downloads."""
    return tuple(form for form in FORMS if form.download)


def form_named(text: str, forms: Iterable[Form] = FORMS) -> Form | None:
    """Return the form for a value of ``f`` or a media type. Case and media type parameters are ignored."""
    plain = text.partition(";")[0].strip().lower()
    return next((form for form in forms if plain in (form.name, form.media_type, *form.also)), None)


class Room(Protocol):
    """Provides the files in which larger answers are assembled."""

    def hold(self, content: bytes) -> BinaryIO:
        """Return *content* as a file like those of :meth:`open`."""

    def open(self, declared_bytes: int) -> BinaryIO:
        """Return an empty file for about this many bytes: in memory, or without a name on the data disk.

        Raises
        ------
        NoSpace
            If there is not enough space on the disk, or in the share of it that answers may use.
        """

    def finished(self, file: BinaryIO) -> BinaryIO:
        """Return a file of :meth:`open` after everything is written to it. Every encoder that opens a file calls this at the end.

        Raises
        ------
        NoSpace, StoreUnavailable
            If a write failed. Some libraries hide a failed write and continue.
        """


class Encoder(ABC):
    """Writes one form. :meth:`counted` and :meth:`size` use metadata only; they read no values."""

    def counted(self, part: Part) -> int:
        """Return the number of cells to compare with the limit of the form."""
        return part.cost.cells

    def size(self, part: Part) -> int:
        """Return the approximate size of the answer in bytes."""
        return part.cost.bytes

    def check(self, part: Part) -> None:  # noqa: B027 - most forms can represent every part
        """Raise NotAcceptable if the shape of the part shows that the form cannot represent it."""

    @abstractmethod
    def encode(self, part: Part, room: Room, deadline: Deadline) -> Answer:
        """Return the answer.

        Raises
        ------
        NotAcceptable
            If the form cannot represent this part.
        NoSpace, Corrupt, StoreUnavailable
            If there is no space for the answer; if the data cannot be read.
        """
