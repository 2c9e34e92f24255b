"""Every error that cubeport raises, as one tree grouped by what the caller can do.

::

    CubeportError                 internal: our bug; the traceback is in the log only
    ├── InvalidRequest            change the request              CLI exit 2, HTTP 4xx
    │   └── Usage, InvalidFilter, InvalidCursor, InvalidTemplate, InvalidPeriod, InvalidRange, AreaOutsideSource,
    │       PathEscapes, OutsideProfile, AmbiguousId, UnknownSchema, UnknownProfile, SchemaInvalid, SecretRefused,
    │       NamespaceTaken, ReadOnly, HookFailed, PluginFailed, Unauthorized, Forbidden, MethodNotAllowed, NotAcceptable,
    │       PreconditionFailed, TooLarge, UriTooLong, UnsupportedMediaType, InvalidConfiguration
    ├── NotFound                  the thing does not exist        exit 3, HTTP 404
    │   └── NotACatalog, RecordNotFound, NoMatch, ArtifactMissing, NoSuchProcess, NoSuchJob, ResultNotReady,
    │       Gone → VersionRemoved, CursorExpired
    ├── Conflict                  read again, then decide         exit 4, HTTP 409
    │   └── RecordExists, KeyExists, TargetExists, CatalogExists, SchemaExists, StaleRecord, CatalogMoved, DatasetExists,
    │       DatasetBusy, AlreadyFinished, Cancelled, NothingToPublish, TemplateChanged, ExtentChanged, DataConflict → …
    ├── Refused                   bring another source            exit 5, HTTP 422
    │   └── SourceRejected (reason: one of SOURCE_REASONS)
    ├── Unavailable               try later                       exit 6, HTTP 503
    │   └── Locked, BackendUnavailable, StoreUnavailable, NoSpace, NetworkFilesystem, NewerModel, ExtraMissing,
    │       QueueFull, Interrupted, SourceFailed, SourceTimeout, SourceChanged, ExecutorUnavailable
    └── Corrupt                   tell us, restore                exit 1, HTTP 500
        └── CorruptCatalog, HashMismatch, Configuration

``kind`` is a slug that is never renamed: clients branch on it, ``/problems/{kind}`` explains it. Statuses and exit codes are
tables at the edges (``server/problems.py``, ``cli/_output.py``), found along the class's MRO.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

SOURCE_REASONS = {
    "unreadable": "fetch it again, and compare its checksum with the publisher's",
    "truncated": "transfer it again",
    "too-big": "bring the data in smaller pieces",
    "unsafe": "bring a file that was written by a NetCDF, Zarr or GRIB library",
    "bad-codec": "write it again with one of the usual compressors, such as zlib or zstd",
    "bad-time": "correct the time in the source, or say what it is with --normalise 'set_time: ...' (docs/repair.md)",
    "bad-coordinates": "correct the coordinates in the source, or with a step of --normalise (docs/repair.md)",
    "bad-text": "correct the text in the source, or set it with --normalise 'set_attributes: ...' (docs/repair.md)",
    "not-a-cube": "add coordinate variables with CF attributes; or cubeport add, which catalogues files that are not cubes",
    "empty": "look whether the name is right, and bring a source that has data",
    "digest-mismatch": "repeat it; if the same happens again, check the disk and the memory of this machine",
    "crashed": "repeat it; if the same happens again, report the file",
    "timed-out": "raise gate.base_s, or bring the data in smaller pieces",
    "not-allowed": "bring a source that the settings under sources in config/service.yaml allow",
    "not-virtual": "copy it: --storage auto, or --storage copy",
    "not-netcdf": "leave the NetCDF copy out (--no-netcdf-copy), or leave these variables out",
}
"""Why a source may be refused, and what to do if the refusal itself does not say it. A reason is never renamed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a request: where (``loc``), which (``kind``), and in words. Never the offending value itself."""

    loc: tuple[str | int, ...]
    kind: str
    message: str

    def to_mapping(self) -> dict[str, Any]:
        """Return the member of a problem document's ``errors`` list."""
        return {"loc": list(self.loc), "kind": self.kind, "message": self.message}


def renamed(problem: Problem, names: Mapping[str, str]) -> Problem:
    """Return the problem of a query parameter with the name that the caller used, by *names* of ours."""
    name = str(problem.loc[1])
    if name not in names:
        return problem
    words = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", names[name], problem.message)
    return Problem((problem.loc[0], names[name], *problem.loc[2:]), problem.kind, words)


def unknown_parameter(name: str, known: Iterable[str]) -> Problem:
    """Return what is wrong with a query parameter that an address does not have, with those that it has."""
    return Problem(("query", name[:60]), "unknown", f"{name[:60]} {not_among(known)}")


def not_among(known: Iterable[str]) -> str:
    """Return the words for a parameter that is not one of *known*."""
    return f"is not a parameter here, where there are only {', '.join(sorted(known))}"


_MOST_SAID = 5
"""How many problems the text of an error lists; ``errors`` has all."""


class CubeportError(Exception):
    """Something in cubeport itself went wrong."""

    kind: ClassVar[str] = "internal"
    type_uri: ClassVar[str | None] = None
    """The ``type`` of its problem document where a standard says it; else the address of its kind."""

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        errors: Sequence[Problem] = (),
        operation_id: str | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        """A command or an action that the caller can try next."""
        self.errors = tuple(errors)
        self.operation_id = operation_id
        self.members: Mapping[str, Any] = members
        """Extension members of the problem document (RFC 9457, 3.2), JSON values only: ``reason``, ``limit``, ``what``…"""

    def __str__(self) -> str:
        """Return the message, and the problems if it says none of them."""
        if not self.errors or any(each.message in self.message for each in self.errors):
            return self.message
        said = [f"{'.'.join(map(str, each.loc))}: {each.message}" for each in self.errors[:_MOST_SAID]]
        said += [f"and {len(self.errors) - _MOST_SAID} more"] if len(self.errors) > _MOST_SAID else []
        return f"{self.message.removesuffix('.')}: {'; '.join(said)}"

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # computed, because a next step may be set after the error was made
        """The next step, which a traceback shows below the message (PEP 678)."""
        return [] if self.next_step is None else [f"Next: {self.next_step}"]

    @classmethod
    def title(cls) -> str:
        """Return the one-line meaning of the kind: the class's own docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")

    def to_mapping(self) -> dict[str, Any]:
        """Return the problem as ``kind, title, detail, errors``, then ``next`` and ``operation_id`` if known, then the members."""
        problem: dict[str, Any] = {"kind": self.kind, "title": self.title(), "detail": self.message}
        problem["errors"] = [each.to_mapping() for each in self.errors]
        if self.next_step is not None:
            problem["next"] = self.next_step
        if self.operation_id is not None:
            problem["operation_id"] = self.operation_id
        return problem | dict(self.members)

    @staticmethod
    def from_mapping(problem: Mapping[str, Any], **members: Any) -> CubeportError:
        """Return the error that :meth:`to_mapping` described, of its own class, with *members* added."""
        cls = next((each for each in kinds() if each.kind == problem["kind"]), CubeportError)
        exc = cls.__new__(cls)
        # Not by the constructor of its class, which may ask for what the document does not have.
        CubeportError.__init__(
            exc,
            _message(problem),
            next_step=problem.get("next"),
            operation_id=problem.get("operation_id"),
            errors=[Problem(tuple(each["loc"]), each["kind"], each["message"]) for each in problem.get("errors", ())],
            **{name: value for name, value in problem.items() if name not in _DOCUMENTED} | members,
        )
        return exc


def _message(problem: Mapping[str, Any]) -> str:
    """Return ``detail`` without the next step, which it repeats in an answer over HTTP (there ``type`` is an address)."""
    detail, step = str(problem["detail"]), problem.get("next")
    if step is None or "type" not in problem:
        return detail
    return detail.partition(" Next: ")[0].removesuffix(f" {step}")


_DOCUMENTED = frozenset({"kind", "title", "detail", "errors", "next", "operation_id"})


def kinds() -> Iterator[type[CubeportError]]:
    """Yield every class of the tree, parents first, each once."""
    pending: list[type[CubeportError]] = [CubeportError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending.extend(cls.__subclasses__())


# --- change the request ---------------------------------------------------------------------------------------------


class InvalidRequest(CubeportError):
    """The request is not valid."""

    kind = "invalid-request"


class Usage(InvalidRequest):
    """The command line is not valid."""

    kind = "usage"


class InvalidConfiguration(InvalidRequest):
    """A configuration file of the instance is not valid."""

    kind = "invalid-configuration"


class InvalidFilter(InvalidRequest):
    """A search term does not fit the grammar."""

    kind = "invalid-filter"


class InvalidCursor(InvalidRequest):
    """The cursor does not belong to this list and query."""

    kind = "invalid-cursor"


class InvalidTemplate(InvalidRequest):
    """A path or dataset template is not valid."""

    kind = "invalid-template"


class InvalidPeriod(InvalidRequest):
    """The text is not a period of that type and calendar."""

    kind = "invalid-period"


class InvalidRange(InvalidRequest):
    """The end is before the start."""

    kind = "invalid-range"


class AreaOutsideSource(InvalidRequest):
    """The request is outside the area or time of the source."""

    kind = "area-outside-source"


class PathEscapes(InvalidRequest):
    """The path leads outside the root that it belongs to."""

    kind = "path-escapes"


class OutsideProfile(InvalidRequest):
    """The place is not in a writable storage profile."""

    kind = "outside-profile"


class AmbiguousId(InvalidRequest):
    """The id prefix matches more than one record."""

    kind = "ambiguous-id"


class UnknownSchema(InvalidRequest):
    """No schema of that name and version is registered."""

    kind = "unknown-schema"


class UnknownProfile(InvalidRequest):
    """No storage profile of that name is configured."""

    kind = "unknown-profile"


class SchemaInvalid(InvalidRequest):
    """The metadata does not fit its schema."""

    kind = "schema-invalid"


class SecretRefused(InvalidRequest):
    """The locator or value contains a secret, which no record may contain."""

    kind = "secret-refused"


class NamespaceTaken(InvalidRequest):
    """The name already has another owner."""

    kind = "namespace-taken"


class ReadOnly(InvalidRequest):
    """The catalog or server is open for reading only."""

    kind = "read-only"


class HookFailed(InvalidRequest):
    """A required hook failed, so the operation was rolled back."""

    kind = "hook-failed"


class PluginFailed(InvalidRequest):
    """Code of a plugin failed, so the operation was rolled back."""

    kind = "plugin-failed"


class Unauthorized(InvalidRequest):
    """The request needs a valid key."""

    kind = "unauthorized"


class Forbidden(InvalidRequest):
    """The key does not allow this."""

    kind = "forbidden"


class MethodNotAllowed(InvalidRequest):
    """The address does not accept this method."""

    kind = "method-not-allowed"


class NotAcceptable(InvalidRequest):
    """The address has none of the requested formats."""

    kind = "not-acceptable"


class PreconditionFailed(InvalidRequest):
    """The resource has changed since it was read."""

    kind = "precondition-failed"


class TooLarge(InvalidRequest):
    """The request or its answer is over a limit."""

    kind = "too-large"


class UriTooLong(InvalidRequest):
    """The address is too long."""

    kind = "uri-too-long"


class UnsupportedMediaType(InvalidRequest):
    """The address does not accept the media type of the body."""

    kind = "unsupported-media-type"


# --- there is no such thing -----------------------------------------------------------------------------------------


class NotFound(CubeportError):
    """Nothing was found for this request."""

    kind = "not-found"


class NotACatalog(NotFound):
    """The folder is not a cubeport catalog."""

    kind = "not-a-catalog"


class NoSuchProcess(NotFound):
    """There is no process with this name (OGC API Processes, 7.10)."""

    kind = "no-such-process"
    type_uri = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-process"


class NoSuchJob(NotFound):
    """There is no job with this id, or it is another caller's (OGC API Processes, 7.12)."""

    kind = "no-such-job"
    type_uri = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-job"


class ResultNotReady(NotFound):
    """The job has no result yet (OGC API Processes, 7.13)."""

    kind = "result-not-ready"
    type_uri = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/result-not-ready"


class RecordNotFound(NotFound):
    """No record has that id, key or prefix."""

    kind = "record-not-found"


class NoMatch(NotFound):
    """The filter matches no record."""

    kind = "no-match"


class ArtifactMissing(NotFound):
    """The bytes of the artifact are missing."""

    kind = "artifact-missing"


class Gone(NotFound):
    """It existed and was removed."""

    kind = "gone"


class VersionRemoved(Gone):
    """The version was removed."""

    kind = "version-removed"


class CursorExpired(Gone):
    """The cursor is older than the list of changes."""

    kind = "cursor-expired"


# --- read again, then decide ----------------------------------------------------------------------------------------


class Conflict(CubeportError):
    """The request conflicts with the present state."""

    kind = "conflict"


class RecordExists(Conflict):
    """A record with that id already exists."""

    kind = "record-exists"


class KeyExists(Conflict):
    """A record with that key already exists."""

    kind = "key-exists"


class TargetExists(Conflict):
    """The target already exists and is never overwritten."""

    kind = "target-exists"


class CatalogExists(Conflict):
    """The folder already contains a catalog."""

    kind = "catalog-exists"


class SchemaExists(Conflict):
    """That schema version is registered with other content."""

    kind = "schema-exists"


class StaleRecord(Conflict):
    """The record changed since it was read."""

    kind = "stale-record"


class CatalogMoved(Conflict):
    """The catalog was converted to another backend while this one was open."""

    kind = "catalog-moved"

    target: str = ""
    """The backend, or the address of the database. It is in no message and no member: callers of a server must not see it."""

    @classmethod
    def to(cls, target: str) -> Self:
        """Return the error for a catalog that was converted to *target*."""
        step = "restart this process, which then opens the catalog where it is now"
        found = cls(f"The catalog was converted and is now in {target.partition(':')[0]}.", next_step=step)
        found.target = target
        return found


class DatasetExists(Conflict):
    """A dataset with that id already exists."""

    kind = "dataset-exists"


class DatasetBusy(Conflict):
    """Another ingestion is using the dataset."""

    kind = "dataset-busy"


class AlreadyFinished(Conflict):
    """The work has already ended."""

    kind = "already-finished"


class Cancelled(Conflict):
    """The work was cancelled."""

    kind = "cancelled"


class NothingToPublish(Conflict):
    """The dataset has no version to publish."""

    kind = "nothing-to-publish"


class TemplateChanged(Conflict):
    """The template has changed since the data were ingested."""

    kind = "template-changed"


class ExtentChanged(Conflict):
    """The named area has changed since the data were ingested."""

    kind = "extent-changed"


class TagExists(Conflict):
    """The tag already names another version."""

    kind = "tag-exists"


class DataConflict(Conflict):
    """The data do not fit the existing data or the request."""

    kind = "data-conflict"


class NoData(DataConflict):
    """The source has no data for the request."""

    kind = "no-data"


class CoverageIncomplete(DataConflict):
    """The source does not cover the request."""

    kind = "coverage-incomplete"


class Gap(DataConflict):
    """Periods are missing inside the range."""

    kind = "gap"


class Overlap(DataConflict):
    """The new periods overlap existing ones."""

    kind = "overlap"


class GridMismatch(DataConflict):
    """The coordinates differ."""

    kind = "grid-mismatch"


class VariablesMismatch(DataConflict):
    """The variables or their dimensions differ."""

    kind = "variables-mismatch"


class DtypeMismatch(DataConflict):
    """The data types differ."""

    kind = "dtype-mismatch"


class UnitsMismatch(DataConflict):
    """The units differ."""

    kind = "units-mismatch"


class CalendarMismatch(DataConflict):
    """The calendars differ."""

    kind = "calendar-mismatch"


class EncodingMismatch(DataConflict):
    """The packing or fill values differ."""

    kind = "encoding-mismatch"


# --- bring another source -------------------------------------------------------------------------------------------


class Refused(CubeportError):
    """The source was refused."""

    kind = "refused"


class SourceRejected(Refused):
    """The source did not pass the gate."""

    kind = "source-rejected"

    def __init__(self, message: str, *, reason: str, source: str | None = None, **rest: Any) -> None:
        if reason not in SOURCE_REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        super().__init__(message, reason=reason, source=source, **{"next_step": SOURCE_REASONS[reason], **rest})
        self.reason = reason

    @classmethod
    def changed(cls, name: str) -> Self:
        """Return the refusal of a source that is not what it was when it was first looked at."""
        return cls(
            f"{name} changed while it was read",
            reason="digest-mismatch",
            source=name,
            next_step="ingest it again when nobody is writing to it",
        )


# --- try later ------------------------------------------------------------------------------------------------------


class Unavailable(CubeportError):
    """Something that the service needs does not answer."""

    kind = "unavailable"


class Locked(Unavailable):
    """Another process holds the lock."""

    kind = "locked"


class BackendUnavailable(Unavailable):
    """The catalog's store does not answer."""

    kind = "backend-unavailable"


class StoreUnavailable(Unavailable):
    """The store of the bytes does not answer."""

    kind = "store-unavailable"


class ExecutorUnavailable(Unavailable):
    """The Dask cluster that makes versions does not answer, or has no workers."""

    kind = "executor-unavailable"


class NoSpace(Unavailable):
    """There is not enough free space."""

    kind = "no-space"


class NetworkFilesystem(Unavailable):
    """The backend is not reliable on this file system."""

    kind = "network-filesystem"


class NewerModel(Unavailable):
    """The data were written by a newer cubeport."""

    kind = "newer-model"


class ExtraMissing(Unavailable):
    """An optional part is not installed."""

    kind = "extra-missing"


class QueueFull(Unavailable):
    """Too much work is waiting."""

    kind = "queue-full"


class Interrupted(Unavailable):
    """The work's process died before it was done."""

    kind = "interrupted"


class SourceFailed(Unavailable):
    """The source's server failed."""

    kind = "source-failed"


class SourceTimeout(Unavailable):
    """The source's server took too long."""

    kind = "source-timeout"


class SourceChanged(Unavailable):
    """A file that the version points into is not there any more, or is not what it was."""

    kind = "source-changed"


# --- tell us, restore -----------------------------------------------------------------------------------------------


class Corrupt(CubeportError):
    """Stored bytes differ from what was written."""

    kind = "corrupt"


class CorruptCatalog(Corrupt):
    """The catalog cannot be read."""

    kind = "corrupt-catalog"


class HashMismatch(Corrupt):
    """The bytes differ from their recorded hash."""

    kind = "hash-mismatch"


class Configuration(Corrupt):
    """A plugin broke its contract."""

    kind = "configuration"
