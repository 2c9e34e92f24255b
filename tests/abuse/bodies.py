"""JSON bodies of at most 1 MB that cost a careless reader seconds, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache


def _ring(vertices: int) -> list[list[float]]:
    return [[round(-180 + n * 360 / vertices, 9), round(60 * (-1) ** n, 9)] for n in range(vertices)]


@cache
def bodies() -> Mapping[str, bytes]:
    """Return every body; each is refused, or answered like any other."""
    doubled = "{" + ",".join(f'"k{n}":1,"k{n}":1' for n in range(30_000)) + "}"
    found = {
        "doubled keys": doubled,
        "doubled keys below": '{"intersects":' + doubled + "}",
        "few doubled keys": "{" + ",".join(f'"k{n}":1,"k{n}":1' for n in range(400)) + "}",
        "unknown members": "{" + ",".join(f'"k{n}":1' for n in range(30_000)) + "}",
        "open lists": "[" * 1_000_000,
        "open objects": '{"a":' * 200_000,
        "lists in a row": "[]" * 500_000,
        "many deep lists": "[" + ",".join("[" * 62 + "]" * 62 for _ in range(8_000)) + "]",
        "many ids": json.dumps({"ids": [f"sea@{n:032x}" for n in range(9_000)]}),
        "too many ids": json.dumps({"ids": [f"sea@{n:032x}" for n in range(24_000)]}),
        "many collections": json.dumps({"collections": [f"sea-{n}" for n in range(9_000)]}),
        "wrong items": '{"ids":[' + ",".join("1" for _ in range(330_000)) + "]}",
        "few wrong items": '{"ids":[' + ",".join("1" for _ in range(9_000)) + "]}",
        "wrong box": '{"bbox":[' + ",".join('"x"' for _ in range(30_000)) + "]}",
        "long ring": json.dumps({"intersects": {"type": "Polygon", "coordinates": [_ring(35_000)]}}),
        "ring at the limit": json.dumps({"intersects": {"type": "Polygon", "coordinates": [_ring(9_999)]}}),
        "points": json.dumps({"intersects": {"type": "MultiPoint", "coordinates": _ring(10_000)}}),
        "long text": '{"ids":["' + "x," * 500_000 + '"]}',
        "escapes": '{"ids":["' + "\\ud800" * 170_000 + '"]}',
        "backslashes": '{"ids":["' + "\\\\" * 500_000 + '"]}',
        "one long number": '{"limit":' + "9" * 1_000_000 + "}",
        "long numbers": '{"ids":[' + ",".join("9" * 4_200 for _ in range(240)) + "]}",
        "long exponents": '{"ids":[' + ",".join(f"1e{'0' * 4_000}1" for _ in range(240)) + "]}",
        "quotes": '"' * 1_000_000,
        "paths": '{"dataset_id":"sea","source":{"kind":"files","paths":[' + ",".join("1" for _ in range(9_900)) + "]}}",
        "variables": '{"dataset_id":"sea","template":{"variables":[' + ",".join('{"a":1}' for _ in range(9_900)) + "]}}",
    }
    return {name: text.encode() for name, text in found.items()}
