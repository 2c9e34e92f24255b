"""The trial of a store: whether it does what its answers say. Versions are kept only in a store that passes.

A store that ignores ``If-None-Match`` and ``If-Match`` answers 200 and loses what another writer has committed. Its name does not
tell: the same software keeps these conditions in one release and ignores them in another. Only a trial does.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError, PreconditionError
from obstore.store import S3Store

from cubeport.adapters.storage.s3 import UPLOADS, S3Place, cure, reason
from cubeport.errors import InvalidConfiguration, StoreUnavailable

if TYPE_CHECKING:
    from obstore import PutMode


def check_store(place: S3Place) -> None:
    """Try a store with ten requests on one new object below *place*, which is removed at the end.

    Raises
    ------
    InvalidConfiguration
        If it breaks a promise; the message has a line for each.
    StoreUnavailable
        If it cannot be reached, or refuses the key.
    """
    broken = broken_promises(place)
    if broken:
        raise InvalidConfiguration(
            f"The store of the profile {place.profile} cannot keep data, because it would lose them:\n"
            + "\n".join(f"- {each}" for each in broken),
            next_step="use a store that keeps conditional writes, for example SeaweedFS or AWS S3, then repeat the trial: "
            "cubeport doctor --try-stores",
        )


def broken_promises(place: S3Place) -> list[str]:
    """Return what the store did against its promises, a sentence for each. Raises StoreUnavailable."""
    store = place.connect()
    # Among the uploads, so that an object whose trial broke off is removed with old uploads.
    tried = _Object(store, f"{UPLOADS}/trial-{secrets.token_hex(8)}")
    with place.errors("try the store"):
        if (why := tried.write(b"the first body of the trial", "create")) is not None:
            raise StoreUnavailable(
                f"Cannot try the store at {place.url}: {why}", next_step=cure(why, "check the profile and the bucket")
            )
        # Read before it changes as well: a cache on the way would otherwise hide every change.
        broken = [*_reads(tried), *_conditions(tried), *_reads(tried)]
        try:
            store.delete(tried.key)
        except (GenericError, NotSupportedError) as exc:
            if not broken:  # perhaps only the network failed
                raise
            return [*dict.fromkeys(broken), f"It does not remove objects: {reason(exc)}."]
        try:
            store.head(tried.key)
        except FileNotFoundError:
            return list(dict.fromkeys(broken))
        return [*dict.fromkeys(broken), "It still has an object that it said it had removed."]


class _Object:
    """The object of a trial, with the last body that the store accepted."""

    def __init__(self, store: S3Store, key: str) -> None:
        self.store, self.key = store, key
        self.body = b""
        self.etag: str | None = None

    def write(self, body: bytes, mode: PutMode) -> str | None:
        """Write the object under a condition. Return ``None`` if the store accepts it, otherwise how it refuses."""
        try:
            done = self.store.put(self.key, body, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return _CONDITION
        except FileNotFoundError:
            return "there is no such bucket"
        except (GenericError, NotSupportedError) as exc:
            return reason(exc)
        self.body, self.etag = body, done["e_tag"]
        return None


_CONDITION = "the condition is not met"


def _conditions(tried: _Object) -> list[str]:
    """Try each condition once where it is met, and where it is not."""
    if tried.etag is None:
        return ["It gives no ETag for an object, so writers cannot notice each other."]
    first = tried.etag
    why = [_unless_refused(tried.write(b"another writer's body", "create"), "If-None-Match: it replaced an object that existed")]
    why += [_unless_refused(tried.write(b"a body after a wrong ETag", {"e_tag": _NEVER}), f"If-Match: {_REPLACED}")]
    if (refused := tried.write(b"the second body of the trial", {"e_tag": tried.etag})) is not None:
        why += [f"If-Match: it did not replace an object whose ETag was given: {refused}."]
    else:
        why += [_unless_refused(tried.write(b"a body after an old ETag", {"e_tag": first}), f"If-Match: {_REPLACED}")]
    return [each for each in why if each is not None]


_REPLACED = "it replaced an object whose ETag was another"
_NEVER = '"0123456789abcdef0123456789abcdef"'
"""An ETag that none of the bodies has."""


def _unless_refused(how: str | None, accepted: str) -> str | None:
    if how == _CONDITION:
        return None
    return f"It ignores {accepted}." if how is None else f"It does not answer If-Match or If-None-Match: {how}."


def _reads(tried: _Object) -> list[str]:
    """Read the object whole and in part."""
    try:
        body = bytes(tried.store.get(tried.key).bytes())
    except FileNotFoundError:
        return ["It does not have an object that it said it had stored."]
    if body != tried.body:
        return ["It returned other bytes than those that were written last."]
    try:
        part = bytes(tried.store.get_range(tried.key, start=2, length=5))
    except GenericError as exc:
        return [f"It does not answer Range: {reason(exc)}."]
    return [] if part == tried.body[2:7] else ["It ignores Range: it returned other bytes than the requested part."]
