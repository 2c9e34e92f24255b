"""What a job knows and its row does not: query strings of source addresses, and the secrets in addresses and parameters.

Every process reads the rows, and they are in the backups. A query string can be a secret under any name (``?sig=…``, ``?t=…``), so
none is stored. It stays in the memory of the process that accepted the job: only this process can run it, and when it has died,
nobody can. A template in ``config/datasets`` has its address in its file, so its jobs are run by every process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from json import loads
from typing import Any

from cubeport.catalog.forms.redaction import MASK, is_secret_name, mask_queries, mask_secrets
from cubeport.errors import InvalidRequest
from cubeport.service.ingestions import Ingestion, Job, Work, job_of


def without_secrets[J: Job](job: J) -> J:
    """Return *job* as its row may contain it; the same object if its request has nothing that must not be stored."""
    document = job.model_dump(mode="json", include={"request", "options"})
    masked = _masked_request(document)
    if masked == document:
        return job
    return job.model_copy(update=_fields(job_of(job.model_dump(mode="json") | masked)))


def with_request_of[J: Job](job: J, accepted: Work) -> J:
    """Return *job* with the request of *accepted*."""
    return job.model_copy(update=_fields(accepted))


def lacks_secrets(job: Work) -> bool:
    """Return whether the request had something that is no longer in it. A title may contain the mask too, as it is no secret."""
    if not isinstance(job, Ingestion) or MASK not in (text := job.model_dump_json(include={"request", "options"})):
        return False
    unmasked = loads(text.replace(MASK, "unknown"))
    return bool(_masked_request(unmasked) != unmasked)


def why_not_again(job: Work) -> InvalidRequest | None:
    """Return why the request of an ended job cannot be accepted again as it is stored; ``None`` if it can."""
    if isinstance(job, Ingestion) and job.options.files:
        return InvalidRequest("This ingestion was of files that were named on the command line.", next_step="run it there again")
    if lacks_secrets(job):
        return InvalidRequest(
            "The request had a query string in an address, or a secret, which are not stored.", next_step="send the request again"
        )
    return None


def _fields(job: Work) -> dict[str, Any]:
    return {"request": job.request, "options": job.options} if isinstance(job, Ingestion) else {}


_ADDRESSES = ("template", "url", "paths", "files", "file")
"""The fields with the addresses of sources: of a source block, of options, and of a grid file."""


def _masked_request(document: Mapping[str, Any]) -> Any:
    """Return ``request`` and ``options`` with the secrets of all texts masked, the queries of the sources' addresses, and what is
    filled into such a query.
    """
    request = document.get("request") or {}
    source = request.get("source") or {}
    filled = frozenset(_PLACEHOLDER.findall(str(source.get("template") or "").partition("?")[2]))
    return _masked(document, filled=filled)


_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def _masked(value: Any, *, within: str = "", of: str = "", filled: Collection[str] = ()) -> Any:
    """Return *value* with what must not be stored masked: below ``params`` also what has the name of a secret.

    Parameters
    ----------
    within, of
        The part of the request in which it is (``source``, ``params``, ``options``, ``positions``), and the name of its field.
    filled
        The names of parameters that are filled into the query of the address.
    """
    if isinstance(value, Mapping):
        part = of if of in ("source", "params", "options", "positions") and within != "params" else within
        return {
            name: MASK
            if part == "params" and (is_secret_name(name) or name in filled) and each is not None
            else _masked(each, within=part, of=name, filled=filled)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_masked(each, within=within, of=of, filled=filled) for each in value]
    if not isinstance(value, str):
        return value
    is_address = within in ("source", "options", "positions") and of in _ADDRESSES
    return mask_queries(value) if is_address else mask_secrets(value)
