"""What a failed sync to a new release says, for the service that runs it and for a client that waits for it elsewhere."""

from __future__ import annotations

from typing import Literal, TypedDict

NEW_RELEASE = ("release_version_changed", "release_version_unknown")
"""The reasons of a sync that rebuilds a dataset from another release, which must have all periods that the dataset has."""


class Waiting(TypedDict):
    """The parts of a sync's detail that differ once its dataset waits for the rest of a release."""

    action: Literal["no_op"]
    reason: Literal["release_version_unavailable"]


WAITING: Waiting = {"action": "no_op", "reason": "release_version_unavailable"}


def waiting(reason: str, failed: str) -> Waiting | None:
    """Return what a sync with *reason* says if it *failed* with a problem that means: the release is not complete yet.

    ``None`` if the sync has failed.
    """
    return WAITING if reason in NEW_RELEASE and failed == "coverage-incomplete" else None
