"""How datasets and ports look in a notebook: HTML in which every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = (
    "<style>.cubeport{font-family:system-ui,sans-serif;max-width:46em;line-height:1.4}.cubeport h3{margin:0 0 .2em}"
    ".cubeport table{border-collapse:collapse;margin:.6em 0}.cubeport td,.cubeport th{padding:.15em .8em .15em 0;text-align:left}"
    ".cubeport p{margin:.2em 0}.cubeport img{max-width:22em;margin:.4em 0}</style>"
)


def span(time: Sequence[str] | None) -> str:
    """Return the first and the last time in words; the time alone if they are the same."""
    return "" if not time else time[0] if time[0] == time[-1] else f"{time[0]} to {time[-1]}"


def dataset(
    title: str, facts: Iterable[str], variables: Iterable[Mapping[str, Any]], *, picture: bytes | None, reference: str
) -> str:
    """Return the HTML of a dataset: title, facts, variables with units and range, thumbnail."""
    variables = list(variables)
    image = ""
    if picture is not None:
        image = f'<img alt="Map of {escape(title)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
    ranged = any(_range(each) for each in variables)  # older services do not say it, nor do most other catalogs
    rows = "".join(
        f"<tr><td><code>{escape(str(each['name']))}</code></td><td>{escape(_meaning(each))}</td>"
        f"<td>{escape(str(each.get('units') or ''))}</td>{f'<td>{escape(_range(each))}</td>' if ranged else ''}</tr>"
        for each in variables
    )
    heads = f"<tr><th>variable</th><th>meaning</th><th>unit</th>{'<th>range</th>' if ranged else ''}</tr>"
    table = f"<table>{heads}{rows}</table>" if rows else ""
    said = " · ".join(escape(each) for each in facts)
    body = f"<h3>{escape(title)}</h3><p>{said}</p>{image}{table}<p><code>{escape(reference)}</code></p>"
    return f'{_STYLE}<div class="cubeport">{body}</div>'


def _meaning(variable: Mapping[str, Any]) -> str:
    return str(variable.get("long_name") or str(variable.get("standard_name") or "").replace("_", " "))


def part(title: str, asked: Iterable[tuple[str, str]], said: str, addresses: Iterable[tuple[str, str]]) -> str:
    """Return the HTML of a part of a dataset: what was asked for, what it has, and the name and address of each form."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value if len(value) <= 200 else f'{value[:200]}…')}</td></tr>"
        for name, value in asked
    )
    links = " · ".join(f'<a href="{escape(address)}">{escape(name)}</a>' for name, address in addresses)
    body = f"<h3>Part of {escape(title)}</h3><table>{rows}</table><p>{escape(said)}</p><p>{links}</p>"
    return f'{_STYLE}<div class="cubeport">{body}</div>'


def _range(variable: Mapping[str, Any]) -> str:
    """Return the least and the greatest value in words; nothing if they are not known."""
    least, greatest = variable.get("valid_min"), variable.get("valid_max")
    if least is None or greatest is None:
        return ""
    return f"{least:.5g}" if least == greatest else f"{least:.5g} to {greatest:.5g}"


def listing(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    """Return the HTML of a list of datasets: id, title, time."""
    found = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td><td>{escape(span)}</td></tr>" for name, text, span in rows
    )
    return f'{_STYLE}<div class="cubeport"><h3>{escape(title)}</h3><table>{found}</table></div>'


class Picture:
    """A picture. Notebooks show it, and ``save`` writes it to a file."""

    def __init__(self, content: bytes, media_type: str, address: str) -> None:
        self.content = content
        self.media_type = media_type
        self.address = address
        """Where anybody sees the same picture."""

    def __repr__(self) -> str:
        return f"<cubeport.Picture {self.address}>"

    def _repr_png_(self) -> bytes | None:
        return self.content if self.media_type == "image/png" else None

    def _repr_svg_(self) -> str | None:
        return self.content.decode() if self.media_type == "image/svg+xml" else None

    def save(self, path: Any) -> Any:
        """Write the picture to *path*, and return the path."""
        from pathlib import Path

        target = Path(path)
        target.write_bytes(self.content)
        return target
