"""Storage profiles from ``config/profiles.yaml``. The file names environment variables for secrets and does not contain them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cubeport.adapters.storage.local import LocalProfile
from cubeport.adapters.storage.remote import SCRATCH, RemoteProfile
from cubeport.catalog.artifacts.paths import parse
from cubeport.catalog.artifacts.storage import Collision, Profile, Profiles
from cubeport.catalog.disk.durable import make_folders
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.forms.canonical import check_name
from cubeport.catalog.forms.redaction import remember, url_secrets
from cubeport.errors import InvalidConfiguration, InvalidTemplate

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
    use: tuple[Literal["data", "source"], ...] = ()
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

    @field_validator("directory", "filename")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except InvalidTemplate as exc:
                raise ValueError(exc.message) from None
        return value


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

    def problems(self) -> list[str]:
        """Return the problems, each with its place in the file."""
        return self._reason.message.splitlines()

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
    path = instance / FILE
    document = strictyaml.read(path, FILE) if path.is_file() else strictyaml.parse(DEFAULT, FILE)
    written = document.value
    if not isinstance(written, dict) or set(written) != {"profiles"} or not isinstance(written["profiles"], dict):
        raise InvalidConfiguration(f"{FILE}:1:1: must contain profiles: and nothing else")
    profiles, settings = Profiles(), {}
    local = LocalProfile(SCRATCH, scratch)
    for name, values in written["profiles"].items():
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
    return options
