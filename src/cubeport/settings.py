"""The settings of an instance, as one frozen object: flag > environment > ``config/service.yaml`` > default.

``main`` builds it once and passes its values down; nothing below reads the environment or this module. Every setting acts, or is
refused (``Later``). docs/configuration.md has the list.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from cubeport.adapters.engines import ENGINES
from cubeport.catalog.forms import strictyaml, wording
from cubeport.catalog.forms.addresses import Origin, WebURL
from cubeport.errors import InvalidConfiguration, Problem

FILE = "config/service.yaml"
"""Where an instance keeps its settings."""

PREFIX = "CUBEPORT_"
"""What our environment variables begin with; ``__`` separates levels."""

MIB, GIB = 1 << 20, 1 << 30


def _listed(value: object) -> object:
    """Return the parts of a list that an environment variable writes with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https address, for example https://data.example.org/cubes")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must have no user, query or fragment")
    return value.rstrip("/")


def _catalog_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().startswith("postgresql://"):
        raise ValueError("must be postgresql://HOST/DATABASE; other catalogs are named by .cubeport/catalog.yaml")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if not parts.scheme or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise ValueError("must be scheme://host or scheme://host:port")
    return value.rstrip("/").lower()


def _source_origin(value: str) -> str:
    return str(Origin.parse(value))


def _web_address(value: str) -> str:
    WebURL.parse(value)
    return value


def _cors_origin(value: str) -> str:
    return value if value == "*" else _origin(value)


def _network(value: str) -> str:
    try:
        found = ip_network(value, strict=False)
    except ValueError as exc:
        raise ValueError("is no address or network, for example 127.0.0.1 or 10.0.0.0/8") from exc
    if not found.prefixlen:
        raise ValueError("is every address, so anybody could say who asks; name the addresses of the proxies")
    return str(found)


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError("is not a time zone of the IANA database, for example Europe/Paris") from exc
    return value


def _engine(value: str) -> str:
    if value not in ENGINES:
        raise PydanticCustomError(
            "literal_error", "is not an engine of this release", {"expected": " or ".join(map(repr, ENGINES))}
        )
    return value


type Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
type Count = Annotated[int, Field(ge=1)]
type Amount = Annotated[int, Field(ge=0)]
type Reason = Literal["created", "version", "published", "unpublished", "deleted", "restored", "rolled_back", "metadata"]
type PublicId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """Where the server listens."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Count = 1
    max_connections: Count = 1_000
    cache_bytes: Count = 256 * MIB
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_listed)] = ()
    """Forwarding headers count only from these addresses."""


class AuthSettings(Section):
    """Who may do what without a key."""

    public_reads: bool = True
    open_on_loopback: bool = False
    """Without any key, a caller on this machine may ingest, and with the local token do everything. ``init`` writes true."""


class SourcesSettings(Section):
    """What requests can name as a source; empty is none."""

    roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)] = ()
    origins: Annotated[tuple[Annotated[str, AfterValidator(_source_origin)], ...], NoDecode, BeforeValidator(_listed)] = ()


class CorsSettings(Section):
    """Which pages may read from a browser."""

    origins: Annotated[tuple[Annotated[str, AfterValidator(_cors_origin)], ...], NoDecode, BeforeValidator(_listed)] = ("*",)


class MetricsSettings(Section):
    """Who sees ``/metrics``."""

    public: bool = False


class LogSettings(Section):
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    """Whether a line is words or a JSON object."""
    access: bool = False
    """Whether each answer of the server is a line: time, client, method, target, status, bytes, milliseconds, request id."""


class LimitsSettings(Section):
    """What is refused as too large; each refusal names its setting."""

    upload_bytes: Count = 10 * GIB
    source_bytes: Count = 50 * GIB
    declared_bytes: Count = 50 * GIB
    expansion: Count = 1_000
    periods: Count = 1_000_000
    download_cells: Count = 64_000_000
    json_cells: Count = 1_000_000
    csv_cells: Count = 1_000_000
    binary_cells: Count = 64_000_000
    answer_bytes: Count = 256 * MIB
    answer_files_bytes: Count = 8 * GIB
    chunks: Count = 10_000
    map_pixels: Count = 4 * 1024 * 1024
    map_chunks: Count = 1_024
    table_zones: Count = 5_000
    table_rows: Count = 1_000_000
    table_cells: Count = 1_000_000_000
    job_rows: Count = 20_000_000
    job_cells: Count = 100_000_000_000


class ZonesSettings(Section):
    """The named polygons that tables are made for."""

    max_bytes: Count = 10 * MIB
    """Bytes of one zone set as GeoJSON, sent or in ``zones/``."""


class GateSettings(Section):
    """Limits of the child processes that read sources."""

    memory_bytes: Count = 3 * GIB
    base_s: Count = 60
    children: Count | None = None
    """At once; null is one per core."""
    keep_children: bool = True
    """Whether small files of one owner are read by the same process, one after another."""
    sandbox: Literal["prefer", "require", "off"] = "prefer"


class ZarrSettings(Section):
    """Who sends the bytes below ``/zarr``: this process, or a proxy that it tells."""

    offload: Literal["none", "x-accel-redirect"] = "none"
    offload_prefix: Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./-]*/$")] = "/_cubeport/"


class IcechunkSettings(Section):
    """How the engine ``icechunk`` writes, and when it removes what no version has."""

    refs_per_manifest: Count = 10_000
    """Chunks that one manifest of Icechunk lists."""
    inline_bytes: Annotated[int, Field(ge=0, le=65_536)] = 512
    """Smaller chunks are stored in the manifest."""
    retries: Annotated[int, Field(ge=1, le=100)] = 10
    """Attempts of a request that writes; one that reads is sent at most three times."""
    gc_cutoff_h: Annotated[float, Field(ge=24)] = 24
    """Hours; at least twice the longest ingestion. Younger garbage stays, because its writer could be alive."""


class IngestSettings(Section):
    """How long requests wait, and what is kept of fetched sources."""

    wait_s: Annotated[float, Field(ge=0)] = 60
    lock_wait_s: Annotated[float, Field(ge=0)] = 30
    keep_fetched_h: Amount = 24
    """Hours; 0 keeps nothing."""
    keep_fetched_bytes: Amount = 50 * GIB


class CatalogSettings(Section):
    """How the connections of a catalog in PostgreSQL behave."""

    pool: Count = 8
    """Most connections of one process."""
    statement_timeout_s: Count = 60
    dead_peer_s: Annotated[int, Field(ge=3)] = 12
    """After so many seconds without an answer of the other machine a connection ends, on both sides."""


class JobsSettings(Section):
    """Who runs jobs, and how many."""

    executor: Literal["local", "dask"] = "local"
    """Who writes the chunks of a version: this process, or the workers of a Dask cluster."""
    dask_address: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/@\s]+:[0-9]{1,5}$")] | None = None
    """The scheduler, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``."""
    dask_wait_s: Annotated[float, Field(ge=1)] = 60
    """How long an ingestion waits for a scheduler that does not answer or has no worker."""
    unit_bytes: Count = 256 * MIB
    """How many decoded bytes a worker writes at a time, at most; a smaller version is written by this process."""
    workers: Count = 2
    queue: Count = 100
    max_attempts: Count = 3
    keep_days: Amount = 30

    @model_validator(mode="after")
    def _addressed(self) -> JobsSettings:
        if self.executor == "dask" and self.dask_address is None:
            raise ValueError("executor dask needs dask_address: tcp://HOST:PORT of the scheduler")
        if self.executor != "dask" and self.dask_address is not None:
            raise ValueError("dask_address has no effect with executor local: set executor to dask, or leave it out")
        return self


class RetentionSettings(Section):
    """Which versions outlive the next one."""

    keep_last: Count = 5
    keep_days: Amount = 7
    grace_min: Amount = 15
    """Minutes that a version outlives being ``latest``, and its bytes outlive it."""


class ChangesSettings(Section):
    """How far back ``/changes`` reaches."""

    keep_days: Amount = 90


class WebhookTarget(BaseModel):
    """One receiver of changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_web_address)]
    events: Annotated[tuple[Reason, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Reasons of changes; none is all."""
    secret_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    """The environment variable that has the secret."""
    old_secret_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    """The variable that has the secret before this one, as long as the receiver may not know the new one."""
    restricted: bool = False
    """Whether it receives the changes of datasets that not everybody may see."""


class WebhooksSettings(Section):
    """The receivers of changes."""

    origins: Annotated[tuple[Annotated[str, AfterValidator(_source_origin)], ...], NoDecode, BeforeValidator(_listed)] = ()
    """Whom the server may send to, ``scheme://host:port``."""
    targets: tuple[WebhookTarget, ...] = ()

    @model_validator(mode="after")
    def _allowed(self) -> WebhooksSettings:
        for each in self.targets:
            origin = str(WebURL.parse(each.url).origin)
            if origin not in self.origins:
                raise ValueError(f"targets has {origin}, which is not among webhooks.origins: add it there if it may be told")
        if len({each.url for each in self.targets}) < len(self.targets):
            raise ValueError("targets has the same url twice: name all its events in one entry")
        return self


class MirrorsSettings(Section):
    """Which instances versions go to and come from."""

    origins: Annotated[tuple[Annotated[str, AfterValidator(_source_origin)], ...], NoDecode, BeforeValidator(_listed)] = ()


class ScheduleSettings(Section):
    """When syncs run by themselves."""

    enabled: bool = True
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", validate_default=False
    )

    instance: Path
    """The folder that ``config/``, ``extents/`` and relative paths count from; a flag or ``CUBEPORT_INSTANCE``."""

    id: PublicId = "cubeport"
    title: Annotated[str, Field(min_length=1, max_length=512)] = "cubeport"
    description: Annotated[str, Field(min_length=1)] = "Data cubes as STAC, Zarr and OGC API coverages."
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    """The address of this service for everybody; it can have a path. Null is the bound address; required off loopback."""
    data_dir: Path = Path("data")
    catalog_url: Annotated[SecretStr | None, AfterValidator(_catalog_url)] = None
    """``postgresql:``; null is what ``catalog.yaml`` names. With a user or password only from the environment."""
    engine: Annotated[str, AfterValidator(_engine)] = "zarr"
    """How new versions are stored, by the name of an engine; a version is read by the engine that wrote it."""
    profile: str | None = None
    """The profile of ``config/profiles.yaml`` with the versions of the engine ``icechunk``."""
    default_extent: PublicId | None = None
    """The extent of a dataset that is made from a template by a request without one; null is the whole source."""
    read_only: bool = False

    catalog: CatalogSettings = CatalogSettings()
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    sources: SourcesSettings = SourcesSettings()
    cors: CorsSettings = CorsSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    limits: LimitsSettings = LimitsSettings()
    zones: ZonesSettings = ZonesSettings()
    gate: GateSettings = GateSettings()
    zarr: ZarrSettings = ZarrSettings()
    icechunk: IcechunkSettings = IcechunkSettings()
    ingest: IngestSettings = IngestSettings()
    jobs: JobsSettings = JobsSettings()
    retention: RetentionSettings = RetentionSettings()
    changes: ChangesSettings = ChangesSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    mirrors: MirrorsSettings = MirrorsSettings()

    @model_validator(mode="after")
    def _stored(self) -> Settings:
        if ENGINES[self.engine].needs_store and self.profile is None:
            raise ValueError(f"engine {self.engine} needs profile: name a profile of config/profiles.yaml with `use: [data]`")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic-settings passes it by name)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags, then the environment, then the file that ``load`` has read already."""
        values = dict(init_settings())
        file = values.pop("_file", {})
        return _Given(settings_cls, values), env_settings, _Given(settings_cls, file)


class _Given(PydanticBaseSettingsSource):
    """A source whose values are known. The library's own matches keys whatever their case; ours are exact."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = dict(values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 (the base's signature)
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


def load(instance: Path | str | None = None, **flags: Any) -> Settings:
    """Return the settings of the *instance* (default: ``CUBEPORT_INSTANCE``, else here), with absolute paths.

    Parameters
    ----------
    instance
        A folder. Without ``config/service.yaml`` in it, the defaults hold.
    flags
        Values that override all others, with levels joined by ``__`` (``server__port=0``); ``None`` is not given.

    Raises
    ------
    InvalidConfiguration
        With every problem at once, each at its ``file:line:column``, variable or flag.
    """
    root = Path(instance or os.environ.get(f"{PREFIX}INSTANCE") or ".").resolve()
    given = _nested(flags)
    document = _read_file(root)
    found = list(_unknown_variables(os.environ))
    try:
        settings = Settings(**(given | {"instance": root, "_file": document.value}))
    except ValidationError as exc:
        found += _explained(exc, document, given)
    if found:
        raise InvalidConfiguration("\n".join(problem.message for problem in found), errors=found)
    return settings.model_copy(
        update={
            "data_dir": root / settings.data_dir,
            "sources": settings.sources.model_copy(update={"roots": tuple(root / each for each in settings.sources.roots)}),
        }
    )


def names() -> tuple[str, ...]:
    """Return the name of every setting, ``server.port`` and so on, in the order of the documentation."""
    return tuple(".".join(loc) for loc in _leaves(Settings))


def _leaves(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if (section := _section(field)) is not None:
            yield from ((name, *rest) for rest in _leaves(section))
        else:
            yield (name,)


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None:
            continue
        *sections, last = name.split("__")
        level = values
        for section in sections:
            level = level.setdefault(section, {})
        level[last] = value
    return values


def _read_file(root: Path) -> strictyaml.Document:
    path = root / FILE
    document = strictyaml.read(path, FILE) if path.is_file() else strictyaml.Document(FILE, None, {})
    found: list[Problem] = []
    if document.value is None:
        return strictyaml.Document(FILE, {}, {})
    if not isinstance(document.value, dict):
        found.append(Problem((), "not-a-mapping", f"{FILE}:1:1: must be a mapping of settings"))
    elif "instance" in document.value:
        found.append(
            Problem(("instance",), "extra_forbidden", f"{document.place(('instance',))}: instance: is the folder of this file")
        )
    elif "@" in str(document.value.get("catalog_url", "")):
        place = document.place(("catalog_url",))
        found.append(
            Problem(("catalog_url",), "secret", f"{place}: catalog_url: with a user or password comes from CUBEPORT_CATALOG_URL")
        )
    if found:
        raise InvalidConfiguration("\n".join(problem.message for problem in found), errors=found)
    return document


_SECTIONS_OF_OTHERS = ("profiles",)
"""Sections of environment variables that another file of the instance has: ``config/profiles.yaml``."""


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the variables of ours that mean no setting: of an unknown section, or a setting's name with a slip of the pen.

    Other names that begin as ours do are left alone: programs around cubeport may have variables of their own.
    """
    sections = {name for name, field in Settings.model_fields.items() if _section(field)}
    for variable in sorted(environment):
        if not variable.upper().startswith(PREFIX):
            continue
        name, nested, _ = variable[len(PREFIX) :].lower().partition("__")
        if nested and name not in (*sections, *_SECTIONS_OF_OTHERS):
            near = wording.suggestion(name, sections)
            yield Problem((name,), "extra_forbidden", f"{variable}: {name}: is not a section of settings{near}")
        elif not nested and name not in Settings.model_fields and difflib.get_close_matches(name, Settings.model_fields, 1, 0.8):
            near = wording.suggestion(name, Settings.model_fields)
            yield Problem((name,), "extra_forbidden", f"{variable}: {name}: is unknown{near}")


def _section(field: FieldInfo) -> type[Section] | None:
    return field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, Section) else None


def _explained(exc: ValidationError, document: strictyaml.Document, flags: Mapping[str, Any]) -> Iterator[Problem]:
    known: dict[strictyaml.Loc, list[str]] = {(): list(Settings.model_fields)}
    for name, field in Settings.model_fields.items():
        if (section := _section(field)) is not None:
            known[(name,)] = list(section.model_fields)
    environment = EnvSettingsSource(Settings)()
    for error in exc.errors(include_url=False):
        loc = tuple(error["loc"])
        words = strictyaml.explain(error, known)
        if _holds(flags, loc):
            place = "--" + "-".join(str(part) for part in loc).replace("_", "-")
        elif _holds(environment, loc):
            place = PREFIX + "__".join(str(part) for part in loc[:2]).upper()
        else:
            place = document.place(loc)
        yield Problem(loc, str(error["type"]), f"{place}: {words}")


def _holds(values: object, loc: tuple[str | int, ...]) -> bool:
    """Return whether *loc*, or the text that a list there was split from, was given in *values*."""
    for part in loc:
        if isinstance(values, str):
            return True
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
