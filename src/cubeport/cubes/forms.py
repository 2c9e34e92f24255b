"""Output forms of values: what each is called, what bounds it, and who writes it.

A form is one line of :data:`FORMS` and one file of ``adapters/encoders`` with an ``ENCODER``. Negotiation, links, limits, file
names and the API definition are made from the line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cubeport.cubes.part import Deadline, Part

type Answer = bytes | BinaryIO
"""A whole answer: bytes, or an open file that has no name any more."""


@dataclass(frozen=True, slots=True)
class Form:
    """One output form."""

    name: str
    """The value of ``f``."""
    title: str
    media_type: str
    suffix: str
    """Of file names, without its dot."""
    limit: str
    """The setting below ``limits`` that bounds its cells."""
    encoder: str
    """The file of ``adapters/encoders`` that writes it."""
    also: tuple[str, ...] = ()
    """Other values of ``f`` and other media types that mean it."""
    download: bool = False
    """Whether it is a file to keep: offered by ``/datasets/{dataset_id}/download``, and sent with a file name."""
    stored: bool = False
    """Whether it holds values as stored: a download of it has every variable, and ``limits.download_cells`` bounds it."""
    seconds: float = 1.0
    """How many times the usual deadline a download may take: it is made to be large."""


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
"""Every form that is offered; the first is the default of coverages and EDR queries, the first file that of downloads."""


PLOT = Form("svg", "Plot", "image/svg+xml", "svg", "json_cells", "plot")
"""What ``/datasets/{dataset_id}/plot`` answers with. It shows one field along one axis, so no coverage or EDR query offers it."""


def downloads() -> tuple[Form, ...]:
    """Return the forms of downloads."""
    return tuple(form for form in FORMS if form.download)


def form_named(text: str, forms: Iterable[Form] = FORMS) -> Form | None:
    """Return the form that a value of ``f`` or a media type means, in letters of any case; its parameters do not count."""
    plain = text.partition(";")[0].strip().lower()
    return next((form for form in forms if plain in (form.name, form.media_type, *form.also)), None)


class Room(Protocol):
    """Where an answer is put together when it is not made of bytes at once."""

    def hold(self, content: bytes) -> BinaryIO:
        """Return *content* as a file, as :meth:`open` does."""

    def open(self, declared_bytes: int) -> BinaryIO:
        """Return an empty file for about that many bytes: in memory, or without a name on the data disk.

        Raises
        ------
        NoSpace
            When the disk, or the part of it that answers may take, has no room for it.
        """

    def finished(self, file: BinaryIO) -> BinaryIO:
        """Return a file of :meth:`open` once everything is written to it. Every encoder that opens one ends with this.

        Raises
        ------
        NoSpace, StoreUnavailable
            When a write failed: libraries hide it, and go on as if there were room.
        """


class Encoder(ABC):
    """Writes one form. What :meth:`counted` and :meth:`size` say comes from metadata: they read no value."""

    def counted(self, part: Part) -> int:
        """Return the cells that the form's limit counts."""
        return part.cost.cells

    def size(self, part: Part) -> int:
        """Return the bytes of the answer, about."""
        return part.cost.bytes

    @abstractmethod
    def encode(self, part: Part, room: Room, deadline: Deadline) -> Answer:
        """Return the answer.

        Raises
        ------
        NotAcceptable
            When the form cannot hold this part.
        NoSpace, Corrupt, StoreUnavailable
            When there is no room for it; when the data cannot be read.
        """
