"""Our prose is plain English: phrases that a translator would leave behind are found here."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOREIGN = {
    r"\blest\b": "so that … cannot",
    r"\bwho(?:so)?ever\b": "any caller, anyone who",
    r"\blies? (?:beside|there)\b": "is stored next to",
    r"\bstands? (?:there|beside)\b": "is there",
    r"\bwith words\b": "with a clear message",
    r"\bwhat lacks\b|\bthat lack\b": "what is missing",
    r"\bnever was\b": "does not exist",
    r"\ball else\b": "everything else",
    r"\bnot any more\b|\bno more\b(?! than)": "no longer",
    r"\bfor ever\b": "forever, never ends",
    r"\bin silence\b": "silently",
    r"\bnought\b|\bhence(?:forth)?\b|\b(?:there|where|here)(?:of|in|upon|with)\b": "the common word",
}
"""What we do not write, and what we write instead."""


def prose(page: str) -> str:
    """Return a page without its code and its tables of words."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\| write \| not \|\n(?:\|.*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def found(text: str) -> list[str]:
    return [
        f"{match[0]!r}: write {better!r}"
        for phrase, better in FOREIGN.items()
        for match in re.finditer(phrase, text, re.IGNORECASE)
    ]


def said(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every comment and every string."""
    kinds = {tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_MIDDLE}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def test_foreign_phrases_are_found() -> None:
    assert found("The manifest lies beside the cube, lest whoever asks is told of what lacks.") != []
    assert list(said('x = 1  # never was\n"""with words"""\n')) == [(1, "# never was"), (2, '"""with words"""')]
    assert prose("a\n```sh\nlest\n```\nb `lest`\n").split() == ["a", "b"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_is_plain_english(page: Path) -> None:
    assert found(prose(page.read_text("utf-8"))) == []


def test_messages_docstrings_and_comments_are_plain_english() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for line, text in said(path.read_text("utf-8"))
        for problem in found(text)
    ]
    assert problems == []
