"""Advice in the words of a template: its file has fields where a command for files has flags."""

from __future__ import annotations

import re
import shlex

from cubeport.errors import CubeportError
from cubeport.service.ingestions import Ingestion

_QUOTED = r"""'[^']*'(?:"'"'[^']*')*|"[^"]*\""""
_STEP = re.compile(rf"--(?P<flag>normalise|transform)(?: (?P<step>{_QUOTED}))?")
_FIELD = re.compile(rf"--(?P<flag>group|period-type|chunks|variables|filter-by-keys)(?: (?P<value>{_QUOTED}|[^\s;,.)]+))?")
_FIELDS = {"normalise": "normalise", "transform": "transforms", "period-type": "period_type", "chunks": "layout: {chunks: …}"}
_IN_SOURCE = {"group": "group", "filter-by-keys": "filter_by_keys"}


def of_template(text: str, template_id: str) -> str:
    """Return a text that names flags of a command for files with the fields of a template instead."""

    def step(found: re.Match[str]) -> str:
        name = _FIELDS[found["flag"]]
        given = shlex.split(found["step"])[0] if found["step"] else None
        return name if given is None else f"{name}: [{{{given}}}]"

    def field(found: re.Match[str]) -> str:
        flag, value = found["flag"], found["value"]
        if flag in _IN_SOURCE:
            return f"{_IN_SOURCE[flag]}{f': {value}' if value and flag == 'group' else ''} in its source"
        if flag == "variables":
            return f"variables: [{', '.join(shlex.split(value)[0].split(','))}]" if value else "variables"
        return _FIELDS[flag] if flag == "chunks" or not value else f"{_FIELDS[flag]}: {value}"

    said = _FIELD.sub(field, _STEP.sub(step, text))
    return text if said == text else f"{said} (in the template {template_id})"


def worded(exc: CubeportError, ingestion: Ingestion) -> CubeportError:
    """Return the error of an ingestion; of that of a template, its next step names fields of the template."""
    request = ingestion.request
    if exc.next_step and request.source is None and not ingestion.options.files:
        exc.next_step = of_template(exc.next_step, request.dataset_id)
    return exc
