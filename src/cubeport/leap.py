"""The leap seconds of RFC 3339 (5.6, 5.7), which Python's times do not have."""

from __future__ import annotations

import re

_LEAP = re.compile(r"(\d{4}-\d\d-\d\d[Tt ](\d\d):(\d\d)):60(?:\.\d{1,9})?(?:[Zz]|([+-])(\d\d):(\d\d))?", re.ASCII)


def without_leap(text: str) -> str:
    """Return a time with 23:59:60 in UTC as the last microsecond of that minute; any other text is returned as it is."""
    found = _LEAP.fullmatch(text)
    if found is None:
        return text
    minutes, offset = (int(hour or 0) * 60 + int(minute or 0) for hour, minute in (found.group(2, 3), found.group(5, 6)))
    if (minutes + (offset if found[4] == "-" else -offset)) % 1440 != 1439:
        return text
    return f"{found[1]}:59.999999{text[found.end(3) + 3 :].lstrip('.0123456789')}"
