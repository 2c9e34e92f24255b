"""The lifecycle rules of a bucket that contains versions: which one it needs, and which would delete data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cubeport.adapters.storage.s3 import S3Place
from cubeport.errors import StoreUnavailable

type Rule = Mapping[str, Any]
"""A rule in the words of S3's ``PutBucketLifecycleConfiguration``."""

_DAYS = 7


def wanted(place: S3Place) -> Rule:
    """Return the rule that a bucket needs. A writer that is killed leaves parts of uploads, which no listing shows."""
    return {
        "ID": f"cubeport-{place.profile}",
        "Status": "Enabled",
        "Filter": {"Prefix": _below(place)},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _DAYS},
    }


def deleting(rules: Iterable[Rule], place: S3Place) -> list[str]:
    """Return the ids of the active rules that delete, or move to an archive, what is below *place*."""
    return [
        str(rule.get("ID", "without a name"))
        for rule in rules
        if rule.get("Status") == "Enabled" and _meets(rule, place) and ("Expiration" in rule or rule.get("Transitions"))
    ]


def aborts(rules: Iterable[Rule], place: S3Place) -> bool:
    """Return whether an active rule removes unfinished uploads below *place*."""
    return any(
        rule.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in rule and _below(place).startswith(_prefix(rule))
        for rule in rules
    )


def rules_of(filesystem: Any, place: S3Place) -> Sequence[Rule]:
    """Return the rules of the bucket, none where it has none.

    Parameters
    ----------
    filesystem
        s3fs, connected to the store.

    Raises
    ------
    StoreUnavailable
        If the store cannot tell, for example because the key may not read them.
    """
    from botocore.exceptions import BotoCoreError

    try:
        answer = filesystem.call_s3("get_bucket_lifecycle_configuration", Bucket=place.bucket)
    except (BotoCoreError, OSError) as exc:
        # s3fs makes an OSError of each answer that is an error, and keeps the answer as its cause.
        answer = getattr(exc.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
            return []
        raise StoreUnavailable(
            f"The lifecycle rules of the bucket {place.bucket} cannot be read: {exc}",
            next_step=f"allow the key s3:GetLifecycleConfiguration, or take lifecycle: checked out of the profile {place.profile}",
        ) from exc
    rules: Sequence[Rule] = answer.get("Rules", ())
    return rules


def _below(place: S3Place) -> str:
    return f"{place.prefix}/" if place.prefix else ""


def _prefix(rule: Rule) -> str:
    """Return the prefix of a rule; rules by tag or size are taken for all keys, as they may meet any."""
    found = rule.get("Filter") or {}
    return str(rule.get("Prefix") or found.get("Prefix") or (found.get("And") or {}).get("Prefix") or "")


def _meets(rule: Rule, place: S3Place) -> bool:
    prefix, below = _prefix(rule), _below(place)
    return prefix.startswith(below) or below.startswith(prefix)
