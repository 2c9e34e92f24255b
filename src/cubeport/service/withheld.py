"""What a job knows and its row does not: the secrets in the addresses and parameters of its request.

Every process reads the rows, and they are in the backups. So secrets stay in the memory of the process that accepted the job: only
this process can run it, and when it has died, nobody can.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import loads
from typing import Any

from cubeport.catalog.forms.redaction import MASK, is_secret_name, mask_secrets
from cubeport.service.ingestions import Ingestion, Job, Work, job_of


def without_secrets[J: Job](job: J) -> J:
    """Return *job* as its row may contain it; the same object if nothing in its request looks like a secret."""
    document = job.model_dump(mode="json", include={"request", "options"})
    masked = _masked(document)
    if masked == document:
        return job
    return job.model_copy(update=_fields(job_of(job.model_dump(mode="json") | masked)))


def with_request_of[J: Job](job: J, accepted: Work) -> J:
    """Return *job* with the request of *accepted*."""
    return job.model_copy(update=_fields(accepted))


def lacks_secrets(job: Work) -> bool:
    """Return whether the request had secrets that are no longer in it. A title may contain the mask too, as it is no secret."""
    if not isinstance(job, Ingestion) or MASK not in (text := job.model_dump_json(include={"request", "options"})):
        return False
    unmasked = loads(text.replace(MASK, "unknown"))
    return bool(_masked(unmasked) != unmasked)


def _fields(job: Work) -> dict[str, Any]:
    return {"request": job.request, "options": job.options} if isinstance(job, Ingestion) else {}


def _masked(value: Any, *, named: bool = False) -> Any:
    """Return *value* with the secrets of all addresses masked, and below ``params`` also what has the name of a secret."""
    if isinstance(value, Mapping):
        return {
            name: MASK if named and is_secret_name(name) and each is not None else _masked(each, named=named or name == "params")
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_masked(each, named=named) for each in value]
    return mask_secrets(value) if isinstance(value, str) else value
