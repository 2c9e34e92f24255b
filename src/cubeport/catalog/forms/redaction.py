"""Remove secrets from records, events, journal lines and messages. They are recognised by key, by place in a URL, or by value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MASK = "***"

_SECRET = re.compile(
    r"password|passwd|secret|token|api_?key|access_key|authorization|credential|signature|cookie|private_key",
    re.IGNORECASE,
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_PATH_PARAMETER = re.compile(r";([^=;/]+)=([^;/]*)")
"""A parameter of a path segment (RFC 3986, 3.3): ``/data;token=…/x.nc``."""
_QUERY_PARAMETER = re.compile(r"^([^=]+)=(.*)$", re.DOTALL)
_QUERY_SECRETS = re.compile(_SECRET.pattern + r"|^sig$|^key$|^auth$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Return whether a key with this name contains a secret."""
    return _SECRET.search(name.replace("-", "_")) is not None


def _is_query_secret(name: str) -> bool:
    return _QUERY_SECRETS.search(name.replace("-", "_")) is not None


NOT_A_URL = "is not a URL"


def url_secrets(url: str) -> str | None:
    """Return why no record may contain *url*, or ``None``: user info, a ``::`` chain, a query parameter that looks secret."""
    if "::" in url:
        return "chained addresses (::) are refused; name the plain address"
    try:
        parts = urlsplit(url)
    except ValueError:
        return NOT_A_URL
    if parts.username is not None or parts.password is not None:
        return "a URL with user name or password is refused; name a profile with storage_options_env"
    in_path = (found[1] for found in _PATH_PARAMETER.finditer(parts.path))
    if any(map(_is_query_secret, (*in_path, *(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))))):
        return "a URL with a secret-looking query parameter is refused; name a profile with storage_options_env"
    return None


def remember(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *options*, and mask the values of its secrets from now on in every text that this process writes."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            remember(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST and _QUERY_SECRETS.search(name.replace("-", "_")):
            _values.add(value)
    return options


_values: set[str] = set()
_SHORTEST = 6
"""The shortest value that is masked. Shorter values would mask ordinary words."""


def redact_text(text: str) -> str:
    """Return *text* with user info and queries removed from all URLs, and with all remembered secrets masked."""
    for value in _values:
        text = text.replace(value, MASK)
    return _URL.sub(lambda found: _plain_url(found.group()), text)


def mask_secrets(text: str) -> str:
    """Return *text* with user info and secret-looking parameters of its URLs masked, and everything else as it is."""
    return _URL.sub(lambda found: _masked_url(found.group()), text)


def mask_queries(text: str) -> str:
    """Return *text* with user info, secret-looking path parameters and the whole query string of its URLs masked."""
    return _URL.sub(lambda found: _masked_url(found.group(), all_of_query=True), text)


def _masked_url(url: str, *, all_of_query: bool = False) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    user, at, host = parts.netloc.rpartition("@")
    path = _PATH_PARAMETER.sub(_masked_parameter, parts.path)
    query = "&".join(_QUERY_PARAMETER.sub(_masked_parameter, each) for each in parts.query.split("&"))
    if all_of_query and query:
        query = MASK
    return parts._replace(netloc=f"{MASK}@{host}" if at else host or user, path=path, query=query).geturl()


def _masked_parameter(found: re.Match[str]) -> str:
    return f"{found[0][: found.start(2) - found.start()]}{MASK}" if _is_query_secret(unquote(found[1])) else found[0]


def _plain_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    path = _PATH_PARAMETER.sub(lambda found: f";{found[1]}={MASK}" if _is_query_secret(found[1]) else found[0], parts.path)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path, query="", fragment="").geturl()


def redact(value: Any) -> Any:
    """Return *value* with all secrets masked: by key name at any depth, and in the URLs of all texts."""
    if isinstance(value, Mapping):
        return {k: MASK if isinstance(k, str) and is_secret_name(k) else redact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(v) for v in value]
    return redact_text(value) if isinstance(value, str) else value
