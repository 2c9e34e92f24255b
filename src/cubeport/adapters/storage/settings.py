"""What every storage profile of ``profiles.yaml`` can say, whatever it stores its bytes in."""

from __future__ import annotations

from typing import TypedDict

from cubeport.catalog.artifacts.storage import Collision


class ProfileSettings(TypedDict, total=False):
    """The settings that all types of profiles have."""

    writable: bool
    hash: str
    directory: str | None
    filename: str | None
    collision: Collision


class ConfiguredProfile:
    """The settings of one profile, as the core reads them."""

    def __init__(
        self,
        name: str,
        *,
        writable: bool = True,
        hash: str = "sha256",
        directory: str | None = None,
        filename: str | None = None,
        collision: Collision = "suffix",
    ) -> None:
        self.name = name
        self.writable = writable
        self.hash = hash
        self.directory = directory
        self.filename = filename
        self.collision: Collision = collision
