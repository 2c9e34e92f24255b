"""The port ``service.ports.Sources``: every kind of source, by its name."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

from cubeport.adapters.fetching.bringing import Bringer, listed
from cubeport.adapters.fetching.stac import Asset, StacSource
from cubeport.adapters.fetching.stores import StoreSource, check_key
from cubeport.adapters.fetching.uploads import UploadFolder
from cubeport.adapters.fetching.urls import Probe, UrlSource
from cubeport.adapters.fetching.zarrs import StoreKeys, WebKeys, ZarrSource
from cubeport.adapters.sources import places
from cubeport.adapters.sources.identity import stamps
from cubeport.adapters.sources.places import LocalPlaces
from cubeport.adapters.storage.fetching import KeepingFetcher
from cubeport.catalog.artifacts.storage import Profile
from cubeport.cubes.placeholders import Pattern
from cubeport.cubes.sources import Period, PeriodSource, SourceFactory, is_zarr, may_be_zarr
from cubeport.cubes.write_request import BringOrder, Brought, Progress
from cubeport.errors import CubeportError, InvalidRequest, SourceFailed, SourceRejected, UnknownProfile


class Block(places.Block, Protocol):
    """A source block of ``service.templates``."""

    @property
    def template(self) -> str | None: ...
    @property
    def probe(self) -> str: ...
    @property
    def url(self) -> str | None: ...
    @property
    def profile(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...
    @property
    def asset(self) -> str | None: ...
    @property
    def datetime(self) -> str | None: ...
    @property
    def filter(self) -> Mapping[str, Any]: ...
    @property
    def upload(self) -> Sequence[str]: ...
    @property
    def group(self) -> str | None: ...


class InstalledSources:
    """Sources of this machine, of others, and of plugins.

    Parameters
    ----------
    connect
        Makes a fetcher that enforces ``sources.origins`` and ``limits.source_bytes``.
    profiles
        Storage profiles with ``use: [source]`` by name, each with its URL (``s3://bucket/prefix``).
    plugins
        Factories that plugins registered.
    most
        ``limits.source_bytes``.
    """

    def __init__(
        self,
        local: LocalPlaces,
        bringer: Bringer,
        uploads: UploadFolder,
        *,
        connect: Callable[[], KeepingFetcher],
        profiles: Callable[[], Mapping[str, tuple[Profile, str]]],
        plugins: Mapping[str, SourceFactory],
        most: int,
    ) -> None:
        self._local = local
        self._bringer = bringer
        self._uploads = uploads
        self._connect = connect
        self._profiles = profiles
        self._plugins = dict(plugins)
        self._most = most

    def resolve(self, source: Block, *, asker: str | None = None, variables: Sequence[str] = ()) -> tuple[Path, ...] | PeriodSource:
        """Return the local files, or the source that fetches them; see :class:`~cubeport.service.ports.Sources`."""
        match source.kind:
            case "upload":
                return tuple(self._uploads.file(each, owner=asker) for each in source.upload)
            case "url":
                return self._of_address(str(source.template), source.group, variables, params=source.params, probe=source.probe)
            case "zarr" if source.url:
                return self._zarr_at(source.url, source.group, variables)
            case "zarr" if source.profile:
                return self._zarr_in(self._profile(source.profile), source.key or "", source.group, variables)
            case "store":
                return self._in_store(self._profile(source.profile or ""), source.key or "", source.group, variables, source.params)
            case "stac":
                return self._stac(source, variables)
            case "plugin" if source.name in self._plugins:
                return self._plugin(str(source.name), source.params)
        return self._local.resolve(source, installed=tuple(self._plugins))

    def stamps(self, files: tuple[Path, ...]) -> tuple[tuple[str, int, str], ...]:
        """Return the name, size in bytes and modification time of local files, in the format of their identity."""
        return stamps(files)

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the command line's own files; see :class:`~cubeport.service.ports.Sources`."""
        return self._local.own(files)

    def outside(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the files that a version may not point into; see :class:`~cubeport.service.ports.Sources`."""
        return self._local.outside(files)

    def listed(
        self, name: str, source: PeriodSource, start: Period, end: Period, *, is_open: bool = False
    ) -> tuple[Period, ...] | None:
        """Return the periods that the source lists."""
        return listed(name, source, start, end, is_open=is_open)

    def bring(self, source: PeriodSource, order: BringOrder, *, progress: Progress) -> AbstractContextManager[Brought]:
        """Fetch the periods of *order*."""
        return self._bringer.bring(source, order, progress=progress)

    # --- kinds ---

    def _of_address(
        self,
        address: str,
        group: str | None,
        variables: Sequence[str],
        *,
        params: Mapping[str, Any] | None = None,
        probe: str = "head",
    ) -> PeriodSource:
        params = params or {}
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address) and not address.lower().startswith(("http://", "https://")):
            return self._in_store(*self._by_address(address), group, variables, params)
        if is_zarr(address):
            return self._zarr_at(address, group, variables)
        pattern = Pattern.of(address, params)
        fetcher = self._fetcher(pattern.example)
        unnamed = not pattern.has_dates and may_be_zarr(address)
        store = self._zarr(WebKeys(fetcher, address, fetcher.stopping), group, variables, fetcher.stopping) if unnamed else None
        return UrlSource(pattern, fetcher, probe=cast("Probe", probe), store=store)

    def _zarr_at(self, address: str, group: str | None, variables: Sequence[str]) -> PeriodSource:
        fetcher = self._fetcher(address)
        return self._zarr(WebKeys(fetcher, address, fetcher.stopping), group, variables, fetcher.stopping)

    def _zarr_in(self, profile: Profile, key: str, group: str | None, variables: Sequence[str]) -> ZarrSource:
        stopping = threading.Event()
        return self._zarr(StoreKeys(profile, check_key(key.rstrip("/")), stopping), group, variables, stopping)

    def _zarr(
        self, keys: WebKeys | StoreKeys, group: str | None, variables: Sequence[str], stopping: threading.Event
    ) -> ZarrSource:
        return ZarrSource(keys, group=group, variables=variables, most=self._most, stopping=stopping)

    def _in_store(
        self, profile: Profile, key: str, group: str | None, variables: Sequence[str], params: Mapping[str, Any]
    ) -> PeriodSource:
        if is_zarr(key):
            return self._zarr_in(profile, key, group, variables)
        pattern = Pattern.of(check_key(key.rstrip("/")), params)
        unnamed = not pattern.has_dates and may_be_zarr(key)
        store = self._zarr_in(profile, key, group, variables) if unnamed else None
        return StoreSource(profile, pattern, most=self._most, store=store)

    def _stac(self, source: Block, variables: Sequence[str]) -> PeriodSource:
        def of_asset(asset: Asset) -> PeriodSource:
            if asset.is_zarr and asset.href.lower().startswith(("http://", "https://")):
                return self._zarr_at(asset.href, source.group, variables)
            return self._of_address(asset.href, source.group, variables)

        fetcher = self._fetcher(source.url or "")
        return StacSource(
            source.url or "",
            fetcher,
            of_asset,
            asset=source.asset,
            interval=source.datetime,
            wanted=source.filter,
            stopping=fetcher.stopping,
        )

    def _plugin(self, name: str, params: Mapping[str, Any]) -> PeriodSource:
        try:
            return self._plugins[name](dict(params))
        except CubeportError:
            raise
        except (TypeError, ValueError) as exc:
            words = " ".join(str(exc).split())[:300]
            raise InvalidRequest(f"The source plugin {name} does not take these params: {words}") from exc
        except Exception as exc:
            words = " ".join(f"{type(exc).__name__}: {exc}".split())[:200]
            raise SourceFailed(f"The source plugin {name} could not begin: {words}", next_step="tell its author") from exc

    def _fetcher(self, address: str) -> KeepingFetcher:
        """Return a fetcher. Refuses an address that is not allowed before any request is made."""
        fetcher = self._connect()
        fetcher.check(address)
        return fetcher

    def _profile(self, name: str) -> Profile:
        profiles = self._profiles()
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise UnknownProfile(
                f"There is no profile {name[:80]!r} for sources; there are {known}.",
                next_step=f"write `use: [source]` into the profile {name[:80]} of config/profiles.yaml",
            )
        return profiles[name][0]

    def _by_address(self, address: str) -> tuple[Profile, str]:
        """Return the profile whose root contains the address, and the key in it."""
        for profile, root in self._profiles().values():
            above = root.rstrip("/") + "/"
            if address.startswith(above):
                return profile, address.removeprefix(above)
        scheme = address.partition("://")[0]
        raise SourceRejected(
            f"{scheme}: no profile for sources has a root above this address.",
            reason="not-allowed",
            source=address.partition("?")[0][:200],
            next_step=f"add a profile with protocol: {scheme[:20]}, its root and `use: [source]` to config/profiles.yaml",
        )
