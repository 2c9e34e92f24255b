"""Where a profile with ``protocol: s3`` stores its bytes, as one value that each client is made from.

s3fs serves artifacts like any file system of fsspec. obstore does what fsspec cannot: conditional writes, and many objects at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cubeport.catalog.forms.canonical import new_id
from cubeport.errors import ArtifactMissing, ExtraMissing, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

_REGION = "us-east-1"
"""What S3-compatible stores take when a profile names none."""


UPLOADS = "_uploads"
"""The folder of uploads, next to the repositories of datasets, and of objects that are only tried. No dataset has this name."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """A prefix of a bucket, and how to reach it."""

    profile: str
    """The profile's name, for messages."""
    bucket: str
    prefix: str = ""
    """Without slashes at its ends; empty for the whole bucket."""
    endpoint_url: str | None = None
    """``None`` is AWS."""
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    """Without one, unless *anonymous*, the client finds credentials as AWS defines: environment, web identity, instance."""
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    anonymous: bool = False
    path_style: bool = True
    """Whether addresses are ``endpoint/bucket/key``, and not ``bucket.endpoint/key``."""
    allow_http: bool = False

    @property
    def url(self) -> str:
        """The address ``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def below(self, prefix: str) -> S3Place:
        """Return the place *prefix* below this one."""
        return replace(self, prefix="/".join(filter(None, (self.prefix, prefix.strip("/")))))

    def connect(self, *, tries: int = 6, wait_s: int = 30) -> S3Store:
        """Return obstore's client, whose keys begin at the prefix. It sends a checksum with each object.

        Parameters
        ----------
        tries
            How often a request is sent at most.
        wait_s
            How long all of them together may take, in seconds.

        Raises
        ------
        ExtraMissing
            If obstore is not installed.
        """
        try:
            from obstore.store import S3Store
        except ImportError:
            raise ExtraMissing("obstore is not installed.", next_step="pip install 'cubeport[s3]'") from None
        given = {
            "endpoint": self.endpoint_url,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "session_token": self.token,
        }
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        with self.errors("reach the store"):
            return S3Store(
                self.bucket,
                prefix=self.prefix or None,
                region=self.region or _REGION,
                skip_signature=self.anonymous,
                virtual_hosted_style_request=not self.path_style,
                checksum_algorithm="sha256",
                client_options={"allow_http": self.allow_http, "timeout": f"{wait_s}s", "connect_timeout": f"{min(5, wait_s)}s"},
                retry_config={"max_retries": tries - 1, "retry_timeout": timedelta(seconds=wait_s)},
                **options,
            )

    def ask(self) -> None:
        """Ask the store for an object that nobody writes. Raises StoreUnavailable if it does not answer at once, refuses, or has no
        such bucket.
        """
        import obstore

        store = self.connect(tries=1, wait_s=3)
        with suppress(ArtifactMissing), self.errors("look"):
            obstore.get(store, f"{UPLOADS}/ready")  # only the answer to GET has a body, which says whether the bucket is there

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn obstore's errors into ours.

        Raises
        ------
        ArtifactMissing
            If the store says that there is no such object.
        StoreUnavailable
            For every other error, a bucket that is not there among them: absent is not unreadable.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as exc:
            if isinstance(exc, FileNotFoundError) and "<Code>NoSuchBucket<" not in str(exc):
                raise ArtifactMissing(f"Cannot {what} at {self.url}: there is no such object.") from exc
            raise StoreUnavailable(
                f"Cannot {what} at {self.url}: {reason(exc)}",
                next_step=cure(
                    str(exc),
                    "check the profile in config/profiles.yaml, its variables and the network: cubeport doctor --try-stores",
                ),
            ) from exc


def reason(error: Exception) -> str:
    """Return what the store said and its code, or the first line of an error of obstore. The rest is for its own developers."""
    text = str(error)
    return _answered(text) or text.partition("\n")[0].partition(": <?xml")[0].rstrip()


def _answered(text: str) -> str | None:
    """Return what the store said and its code, if the text contains the XML of its answer."""
    found = re.search(r"<Code>(\w+)</Code>\s*<Message>([^<]+)</Message>", text)
    return None if found is None else f"{found[2].rstrip('. ')} ({found[1]})"


def cure(text: str, otherwise: str) -> str:
    """Return what to do about an error of a store: to try again helps against none of these."""
    return next((advice for codes, advice in _CURES if any(code in text for code in codes)), otherwise)


_CURES = (
    (
        ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"),
        "the store refuses the credentials of the profile: renew what key_env, secret_env and token_env name, and start again",
    ),
    (
        ("AccessDenied",),
        "the key of the profile does not have the right: let it read, write, list and delete below the profile's root, or set"
        " another key (key_env, secret_env, token_env)",
    ),
    (("NoSuchBucket", "no such bucket"), "make the bucket, or correct the root of the profile in config/profiles.yaml"),
    (("RequestTimeTooSkewed",), "set the clock of this machine, which differs from that of the store"),
    (
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "IncorrectEndpoint"),
        "the bucket is in another region: correct region or endpoint_url of the profile in config/profiles.yaml",
    ),
    (
        ("certificate expired", "certificate has expired", "CertificateExpired"),
        "renew the certificate of the store, or set the clock of this machine if it is wrong",
    ),
    (
        ("invalid peer certificate", "CERTIFICATE_VERIFY_FAILED"),
        "the certificate of the store is not valid for this machine: correct endpoint_url, or install the authority that signed it",
    ),
    (("InsufficientStorage", "QuotaExceeded", "StorageFull"), "make space in the store"),
)
"""What an error of a store has in its text, in this order, and what to do."""


def in_words(text: str) -> str:
    """Return the first line of an error of Icechunk's client as a person says it: what the store said, and its code."""
    if answered := _answered(text):
        return answered
    first = text.partition("\n")[0].removeprefix("object store error ")
    if found := re.search(r'Error \{ code: "(\w+)", message: "(.*?)"', first):
        first = f"{found[2].rstrip('. ')} ({found[1]})"
    first = first.removeprefix("dispatch failure: io error: ").removeprefix("client error (Connect): ")
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST].rpartition(' ')[0]}…"


_LONGEST = 250


def time_of(store: S3Store) -> datetime:
    """Return the present time by the clock of the store, which says when an object was written now."""
    name = f"probe-{new_id()}"
    store.put(name, b"now")
    at: datetime = store.head(name)["last_modified"]
    store.delete(name)
    return at
