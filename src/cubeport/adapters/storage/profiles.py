"""Storage profiles from ``config/profiles.yaml``. The file names environment variables for secrets and does not contain them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from cubeport.adapters.storage.local import LocalProfile
from cubeport.adapters.storage.remote import SCRATCH, RemoteProfile
from cubeport.adapters.storage.s3 import S3Place
from cubeport.catalog.artifacts.paths import parse
from cubeport.catalog.artifacts.storage import Collision, Profile, Profiles
from cubeport.catalog.disk.durable import make_folders
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.forms.addresses import is_loopback
from cubeport.catalog.forms.canonical import check_name
from cubeport.catalog.forms.redaction import remember, url_secrets
from cubeport.errors import CubeportError, InvalidConfiguration, InvalidTemplate

FILE = "config/profiles.yaml"

DEFAULT = """\
# Where managed bytes are stored. Records name only the profile, so you can move an instance.
profiles:
  default: {protocol: file, root: ./files}
"""


class ProfileSettings(BaseModel):
    """One profile, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str = "file"
    root: str
    storage_options_env: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    key_env: str | None = None
    secret_env: str | None = None
    token_env: str | None = None
    force_path_style: bool | None = None
    """Whether addresses are ``endpoint/bucket/key``; by default with an ``endpoint_url``."""
    allow_http: bool = False
    """Whether requests may go unencrypted to another machine."""
    lifecycle: Literal["checked"] | None = None
    """``checked``: the bucket's lifecycle rules are read by ``init`` and ``doctor --try-stores``."""
    use: tuple[Literal["data", "export", "source"], ...] = ()
    directory: str | None = None
    filename: str | None = None
    collision: Literal["suffix", "error"] = "suffix"
    hash: Literal["sha256", "none"] = "sha256"
    writable: bool = True

    @field_validator("root", "endpoint_url")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and (why := url_secrets(value)):
            raise ValueError(why)
        return value

    @field_validator("storage_options_env", "key_env", "secret_env", "token_env", mode="before")
    @classmethod
    def _variable(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            raise ValueError("should be the name of an environment variable, which contains the value")
        return value

    @field_validator("directory", "filename")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except InvalidTemplate as exc:
                raise ValueError(exc.message) from None
        return value

    @model_validator(mode="after")
    def _acts(self) -> Self:
        """Refuse what would do nothing, and what would send data unencrypted."""
        s3 = self.protocol == "s3"
        for name, wanted in (("force_path_style", s3), ("allow_http", s3), ("lifecycle", s3 and "data" in self.use)):
            if not wanted and name in self.model_fields_set:
                raise ValueError(f"{name} is for {'profiles with use: [data]' if name == 'lifecycle' else 'protocol: s3'}")
        if "data" in self.use and len(self.use) > 1:
            raise ValueError("use: [data] excludes every other use, because cubeport alone may write below its root")
        for use in {"data", "export"} & set(self.use):
            if not s3:
                raise ValueError(f"use: [{use}] is for protocol: s3; data and exports on this machine are in folders")
            if self.storage_options_env:
                raise ValueError(f"use: [{use}] needs key_env and secret_env instead of storage_options_env")
            if not self.writable:
                raise ValueError(f"use: [{use}] writes, so writable: false excludes it")
        parts = urlsplit(self.endpoint_url or "https://aws")
        if s3 and parts.scheme == "http" and not self.allow_http and not is_loopback(parts.hostname or ""):
            raise ValueError("endpoint_url would send data unencrypted: use https, or write allow_http: true")
        return self

    @property
    def path_style(self) -> bool:
        """Whether addresses are ``endpoint/bucket/key``."""
        return bool(self.endpoint_url) if self.force_path_style is None else self.force_path_style


class BrokenProfile:
    """A profile with an invalid configuration. Every use of it raises the reason."""

    writable = False
    hash = "none"
    directory: str | None = None
    filename: str | None = None
    collision: Collision = "error"
    unique_names = False

    def __init__(self, name: str, reason: InvalidConfiguration) -> None:
        self.name = name
        self._reason = reason

    def problems(self) -> list[CubeportError]:
        """Return the problems, each with its place in the file."""
        step = self._reason.next_step or f"correct {FILE}"
        return [InvalidConfiguration(each, next_step=step) for each in self._reason.message.splitlines()]

    def _refuse(self, *_: object, **__: object) -> Any:
        raise InvalidConfiguration(self._reason.message, errors=self._reason.errors, next_step="cubeport profiles")

    locator = check = target = stat = open = local_path = files = walk = _refuse
    remove = remove_folders = quarantine = now = free_bytes = _refuse


def read_profiles(
    instance: Path,
    scratch: Path,
    environment: Mapping[str, str],
    more: Mapping[str, Callable[..., Profile]] | None = None,
) -> tuple[Profiles, dict[str, ProfileSettings]]:
    """Return the profiles of an instance and their settings. ``default`` exists even without the file.

    Parameters
    ----------
    scratch
        The folder in which bytes for remote profiles are made.
    environment
        The environment, with ``CUBEPORT_PROFILES__NAME__KEY`` overrides and the variables that the file names.
    more
        Protocols that plugins add: ``factory(name, settings, root)``.

    A profile with an invalid configuration becomes a :class:`BrokenProfile`. Its users fail with all problems, each with
    ``file:line:column``.

    Raises
    ------
    InvalidConfiguration
        If the file is not YAML, or does not contain profiles.
    """
    document, written = _written(instance)
    profiles, settings = Profiles(), {}
    local = LocalProfile(SCRATCH, scratch)
    for name, values in written.items():
        try:
            found = _one(document, name, values, environment)
            profiles.add(_made(name, found, instance, local, environment, more or {}))
        except InvalidConfiguration as exc:
            # One invalid profile must not stop anything that does not need it, such as searches and other profiles.
            profiles.add(BrokenProfile(name, exc))
        else:
            settings[name] = found
    if any(each.protocol not in ("file", *(more or {})) for each in settings.values()):
        make_folders(scratch)
        profiles.add(local)
    return profiles, settings


def s3_places(
    instance: Path, environment: Mapping[str, str], use: str | None = None, *, name: str | None = None
) -> dict[str, S3Place]:
    """Return where the profiles with ``protocol: s3`` store their bytes, by name. Nothing is opened or made.

    Parameters
    ----------
    use
        Only profiles with this use: ``data``, ``export`` or ``source``.
    name
        Only the profile with this name.

    Raises
    ------
    InvalidConfiguration
        If one of them is not valid, or names a variable that is not set.
    """
    document, written = _written(instance)
    found = {}
    for each, values in written.items():
        if name not in (None, each) or not isinstance(values, dict):
            continue
        if (use is None or use in (values.get("use") or ())) and values.get("protocol") == "s3":
            found[each] = s3_place(each, _one(document, each, values, environment), environment)
    return found


def root_of(instance: Path, name: str) -> str | None:
    """Return the root that the file gives a profile; ``None`` if it has no such profile."""
    values = _written(instance)[1].get(name)
    return str(values.get("root")) if isinstance(values, dict) else None


def s3_place(name: str, settings: ProfileSettings, environment: Mapping[str, str]) -> S3Place:
    """Return where a profile with ``protocol: s3`` stores its bytes. Raises InvalidConfiguration."""
    if settings.storage_options_env:
        raise InvalidConfiguration(f"Profile {name} needs key_env and secret_env instead of storage_options_env for this.")
    options = remember(_options(name, settings, environment))
    bucket, _, prefix = settings.root.removeprefix("s3://").partition("/")
    return S3Place(
        profile=name,
        bucket=bucket,
        prefix=prefix.strip("/"),
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        key=options.get("key"),
        secret=options.get("secret"),
        token=options.get("token"),
        anonymous=settings.anonymous,
        path_style=settings.path_style,
        allow_http=urlsplit(settings.endpoint_url or "").scheme == "http",
    )


def _written(instance: Path) -> tuple[strictyaml.Document, Mapping[str, Any]]:
    """Return the file and what is below ``profiles``. Raises InvalidConfiguration."""
    path = instance / FILE
    document = strictyaml.read(path, FILE) if path.is_file() else strictyaml.parse(DEFAULT, FILE)
    written = document.value
    if not isinstance(written, dict) or set(written) != {"profiles"} or not isinstance(written["profiles"], dict):
        raise InvalidConfiguration(f"{FILE}:1:1: must contain profiles: and nothing else")
    return document, written["profiles"]


def _one(document: strictyaml.Document, name: str, values: Any, environment: Mapping[str, str]) -> ProfileSettings:
    place = document.place(("profiles", name))
    try:
        check_name(name)
    except ValueError as exc:
        raise InvalidConfiguration(f"{place}: profiles.{name}: a profile's name {exc}") from None
    if not isinstance(values, dict):
        raise InvalidConfiguration(f"{place}: profiles.{name}: must be a mapping")
    prefix = f"CUBEPORT_PROFILES__{name.upper().replace('-', '_').replace('.', '_')}__"
    given = {key.removeprefix(prefix).lower(): value for key, value in environment.items() if key.startswith(prefix)}
    try:
        return ProfileSettings.model_validate(values | given)
    except ValidationError as exc:
        errors = [{**error, "loc": ("profiles", name, *error["loc"])} for error in exc.errors(include_url=False)]
        found = strictyaml.problems(document, errors, {("profiles", name): ProfileSettings.model_fields})
        raise InvalidConfiguration("\n".join(each.message for each in found), errors=found) from None


def _made(
    name: str,
    settings: ProfileSettings,
    instance: Path,
    scratch: LocalProfile,
    environment: Mapping[str, str],
    more: Mapping[str, Callable[..., Profile]],
) -> Profile:
    common: dict[str, Any] = {
        "writable": settings.writable,
        "hash": settings.hash,
        "directory": settings.directory,
        "filename": settings.filename,
        "collision": settings.collision,
    }
    if settings.protocol in more:
        return more[settings.protocol](name, settings, instance)
    if settings.protocol in ("file", "local"):
        # Only `~` and `$USER` are expanded; anything else like ${X} is a folder name.
        root = Path(_USER.sub(lambda _: _user(environment), settings.root.removeprefix("file://")))
        return LocalProfile(name, instance / (root.expanduser() if settings.root.startswith("~") else root), **common)
    options = remember(_options(name, settings, environment))
    return RemoteProfile(name, settings.protocol, settings.root, scratch, options=options, **common)


_USER = re.compile(r"\$USER\b|\$\{USER\}")


def _user(environment: Mapping[str, str]) -> str:
    return environment.get("USER") or environment.get("LOGNAME") or str(os.getuid())


def _options(name: str, settings: ProfileSettings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the driver. All named environment variables must be set."""

    def variable(key: str) -> str:
        if key not in environment:
            raise InvalidConfiguration(f"Profile {name} names the variable {key}, which is not set.")
        return environment[key]

    if settings.storage_options_env:
        try:
            options = json.loads(variable(settings.storage_options_env))
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise InvalidConfiguration(f"The variable {settings.storage_options_env} of profile {name} must contain a JSON object.")
        return options
    names = {"key": settings.key_env, "secret": settings.secret_env, "token": settings.token_env}
    options = {key: variable(env) for key, env in names.items() if env}
    if settings.endpoint_url:
        options["endpoint_url"] = settings.endpoint_url
    if settings.region:
        options["client_kwargs"] = {"region_name": settings.region}
    if settings.anonymous:
        options["anon"] = True
    if settings.protocol == "s3":
        options["config_kwargs"] = {"s3": {"addressing_style": "path" if settings.path_style else "virtual"}}
    return options
