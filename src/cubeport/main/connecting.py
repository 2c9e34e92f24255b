"""``cubeport.connect``: a remote service by its URL, or the service of a local instance in this process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cubeport.errors import InvalidRequest

if TYPE_CHECKING:
    from cubeport.client.awaitable import AsyncPort, AsyncStacCatalog
    from cubeport.client.port import Port
    from cubeport.client.stac import StacCatalog
    from cubeport.service.asking import DatasetQueries
    from cubeport.service.service import Service


@overload
def connect(place: Path, *, read_only: bool = False, user_id: str | None = None, **flags: Any) -> Service: ...
@overload
def connect(
    place: str = ".", *, key: str | None = None, read_only: bool = False, user_id: str | None = None, **flags: Any
) -> Any: ...
def connect(
    place: str | Path = ".", *, key: str | None = None, read_only: bool = False, user_id: str | None = None, **flags: Any
) -> Service | Port:
    """Return the service at an http or https URL, or the service of the instance in a folder.

    For a URL it returns a :class:`cubeport.client.Port`, with which you can search, select and open data as xarray. For a folder it
    returns the service itself, in this process, with a method for every command. Close it, or use it with ``with``.

    Parameters
    ----------
    place
        ``https://data.example.org``, or a folder.
    key
        For a URL: the API key, if the service needs one. Default: ``CUBEPORT_KEY``.
    read_only, user_id, flags
        For a folder. Flags are settings that take precedence over environment and file, with levels joined by ``__``
        (``jobs__workers=4``).

    Raises
    ------
    InvalidRequest
        If the URL has another scheme, or an argument belongs to the other kind of place.
    NotACatalog, InvalidConfiguration, CubeportError
        What opening the catalog in a folder raises.
    """
    if isinstance(place, str) and (scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", place)):
        if scheme[1].lower() not in ("http", "https"):
            raise InvalidRequest(
                f"connect takes an http or https address or a folder, and {scheme[1]}: is neither.",
                next_step="cubeport.connect('https://…') or cubeport.connect('folder')",
            )
        if read_only or user_id is not None or flags:
            raise InvalidRequest("read_only, user_id and settings are for a folder; a remote service has its own.")
        from cubeport.client.port import Port

        return Port(place, key=key)
    if isinstance(place, str) and _HOST.fullmatch(place) and not Path(place).exists():
        address = f"{'http' if _LOCAL.match(place) else 'https'}://{place}"
        raise InvalidRequest(
            f"{place} is not a folder, and the address of a service begins with http:// or https://.",
            next_step=f"cubeport.connect({address!r})",
        )
    if key is not None:
        raise InvalidRequest("key is for the address of a service; a folder needs none.")
    from cubeport.main.service import connect as open_here

    return open_here(place, read_only=read_only, user_id=user_id, **flags)


def aconnect(url: str, *, key: str | None = None) -> AsyncPort:
    """Return the service at an http or https address for code that awaits: the same names as :func:`connect`, awaited.

    ::

        port = cubeport.aconnect("https://data.example.org")
        async for data in port.search("temperature"):
            print(data.id)
        cube = await (await port.get("tas")).open()

    Raises
    ------
    InvalidRequest
        For what is not an http or https address.
    """
    from cubeport.client.awaitable import AsyncPort

    if not url.lower().startswith(("http://", "https://")):
        raise InvalidRequest("aconnect takes an http or https address.", next_step="cubeport.connect(folder) for a folder")
    return AsyncPort(connect(url, key=key))


_LOCAL = re.compile(r"(localhost|127(\.[0-9]+){3})\b")
_HOST = re.compile(r"(([\w-]+\.)*[\w-]+:[0-9]{1,5}|localhost|([\w-]+\.){2,}[\w-]+)(/\S*)?")
"""An address whose scheme was forgotten: with a port, or with two dots. A name with one dot is more often a folder."""


def open_stac(url: str) -> StacCatalog:
    """Return the STAC catalog or API of anybody at an address: search its Collections, open their Zarr assets as xarray.

    ::

        catalog = cubeport.open_stac("https://data.example.org/stac")
        cube = catalog["tas"].open()

    Raises
    ------
    InvalidRequest
        For what is not an http or https address.
    """
    from cubeport.client.stac import StacCatalog

    if not url.lower().startswith(("http://", "https://")):
        raise InvalidRequest("open_stac takes an http or https address.")
    return StacCatalog(url)


def aopen_stac(url: str) -> AsyncStacCatalog:
    """Return the STAC catalog or API of anybody for code that awaits: the same names as :func:`open_stac`, awaited.

    ::

        catalog = cubeport.aopen_stac("https://data.example.org/stac")
        async for data in catalog.search("temperature"):
            print(data.id)
        cube = await (await catalog.get("tas")).open()

    Raises
    ------
    InvalidRequest
        For what is not an http or https address.
    """
    from cubeport.client.awaitable import AsyncStacCatalog

    return AsyncStacCatalog(open_stac(url))


def queries(directory: str | Path = ".", **flags: Any) -> DatasetQueries:
    """Return an object that answers coverage and EDR queries for the instance in *directory*, in this process and without a server.

    The instance is opened for reading. Close it, or use it with ``with``::

        with cubeport.queries("climate") as datasets:
            csv = datasets.ask("tas", "position", [("coords", "POINT(10.7 59.9)"), ("f", "csv")])

    Parameters
    ----------
    flags
        As for :func:`connect`.

    Raises
    ------
    NotACatalog, InvalidConfiguration, CubeportError
        What opening the catalog raises.
    """
    from cubeport.main.querying import queries_of, room_of, versions_of
    from cubeport.main.service import connect as open_here
    from cubeport.service.asking import DatasetQueries
    from cubeport.settings import load

    service = open_here(directory, read_only=True, **flags)
    settings = load(directory, read_only=True, **flags)
    return DatasetQueries(
        service, queries_of(settings, service, versions_of(settings, service), room_of(settings)), close=service.close
    )
