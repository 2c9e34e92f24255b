"""A paper library on the catalog: BibTeX and RIS in, PDFs filed by year and key, references out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel


class Paper(BaseModel):
    """The metadata of a paper."""

    citekey: str
    authors: list[str]
    year: int
    journal: str | None = None
    doi: str | None = None
    cites: list[str] = []


_ENTRY = re.compile(r"@\w+\{([^,\s]+),(.*?)\n\}", re.DOTALL)
_FIELD = re.compile(r"(\w+)\s*=\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|\"([^\"]*)\"|(\d+))")


def read_bib(text: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of BibTeX whose entries end with a brace on a line of its own, as BibDesk and Zotero write them."""
    for citekey, body in _ENTRY.findall(text):
        fields = {name.lower(): (braced or quoted or number) for name, braced, quoted, number in _FIELD.findall(body)}
        plain = {name: re.sub(r"[{}]", "", value).strip() for name, value in fields.items()}
        authors = [_turned(each) for each in re.split(r"\s+and\s+", plain.pop("author", ""))]
        lists = {name: [each.strip() for each in plain.pop(name, "").split(",") if each.strip()] for name in ("keywords", "cites")}
        yield {"citekey": citekey, "authors": authors, **lists, **plain}


def read_ris(text: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of RIS."""
    entry: dict[str, Any] = {}
    for tag, value in re.findall(r"^([A-Z][A-Z0-9])  - ?(.*)$", text, re.MULTILINE):
        match tag:
            case "TY":
                entry = {"authors": [], "keywords": [], "cites": []}
            case "AU":
                entry["authors"].append(_turned(value))
            case "KW":
                entry["keywords"].append(value)
            case "ER":
                yield entry
            case _ if tag in (names := {"ID": "citekey", "TI": "title", "PY": "year", "JO": "journal", "DO": "doi"}):
                entry[names[tag]] = value


def _turned(author: str) -> str:
    last, comma, first = author.partition(",")
    return f"{first.strip()} {last.strip()}" if comma else author.strip()


def bring(catalog: Any, path: Path) -> list[Any]:
    """Add the entries of a file, each once; then link what cites what."""
    read = read_ris if path.suffix == ".ris" else read_bib
    added = []
    for entry in read(path.read_text("utf-8")):
        paper = Paper.model_validate({name: value for name, value in entry.items() if name in Paper.model_fields})
        added.append(
            catalog.add(
                paper.model_dump(exclude_none=True),
                key=f"bib:{paper.citekey}",
                on_exists="skip",
                kind="paper",
                title=entry["title"],
                description="; ".join(paper.authors),  # so that words find authors too
                tags=entry["keywords"],
                time=str(paper.year),
                schema_name="paper",
                schema_policy="strict",
            )
        )
    for each in added:
        for cited in each.metadata.get("cites", ()) if each.outcome == "added" else ():
            catalog.update(each, link=[("cites", f"bib:{cited}")])
    return added


def references(records: Iterable[Any]) -> str:
    """Return a reference list: the form ``reference`` of ``cubeport search``."""
    lines = []
    for record in records:
        paper = Paper.model_validate({name: record.metadata[name] for name in Paper.model_fields if name in record.metadata})
        where = ". ".join(filter(None, (record.title, paper.journal, paper.doi and f"doi:{paper.doi}")))
        lines.append(f"[{paper.citekey}] {', '.join(paper.authors)} ({paper.year}). {where}.")
    return "\n".join(lines)


commands = typer.Typer(help="A paper library.")


@commands.command("import")
def import_(ctx: typer.Context, files: Annotated[list[Path], typer.Argument(help="Files of BibTeX or RIS.")]) -> None:
    """Add the entries of BibTeX and RIS files; those that are there are skipped."""
    added = [each for path in files for each in bring(ctx.obj.catalog(), path)]
    ctx.obj.result(added, "\n".join(f"{each.outcome} {each.metadata['citekey']}" for each in added))


@commands.command("attach")
def attach(ctx: typer.Context, citekey: str, pdf: Path) -> None:
    """Give a paper its PDF; the catalog's template for papers says where it is filed."""
    added = ctx.obj.catalog().add_artifact(record=f"bib:{citekey}", source=pdf)
    ctx.obj.result(added, f"attached {added.path().name}")


def register(registry: Any) -> None:
    """Give the plugin's things."""
    registry.schema("paper", Paper)
    registry.relation("cites")
    registry.formatter("reference", references)
    registry.cli("bib", commands)
