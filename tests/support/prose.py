"""How the pages are measured: words per sentence, banned phrases, links and their anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE = re.compile(r"`[^`]+`")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")
NO_PROSE = re.compile(r"#|\||!\[|---+$| {4}")  # headings, tables, pictures, rules and indented code
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
STOP = re.compile(r"(?<!\bal)(?<!\beq)(?<!\bFig)(?<!\bAlg)(?<!e\.g)(?<!i\.e)(?<!\.\.)[.!?][\"”)*_]*\s+")  # not "et al."

PER = (
    r"task|trial|epoch|slide|fold|cohort|second|patient|worker|GPU|gene|model|step|patch|core|place|seed|side|expert|"
    r"channel|bag|file|folder|column|row|run|job|node|site|class|parameter|minute|month|process"
)
LINKING = r"for|of|in|on|by|to|with|from|at|than|and|or|after"
COUNTED = r"bags|bag-steps|bytes|[GM]B|numbers|values|patches|slides|rows|trials|hours|milliseconds|ms|workers|once"
BANNED = {
    rf"\b(?:one(?:\s+[\w-]+)?\s+(?!(?:{LINKING})\b)[\w-]*[^\Ws]|\d[\d,.]*\s+(?:[\w-]+\s+)?[\w-]+s|{COUNTED})\s+an?\s+(?:{PER})\b": "per",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bfor\s+want\s+of\b": "because",
    r"\bbut\s+for\b": "except",
    r"\bthrow(?:s|n)?\s+away\b": "delete",
}


class Length(NamedTuple):
    """Words per sentence of one page."""

    median: float
    ninety: int  # nine sentences in ten have at most so many


class Phrase(NamedTuple):
    """A banned phrase, the line it starts on, and the word to take in its place."""

    line: int
    found: str
    instead: str


def blanked(pattern: re.Pattern[str], text: str) -> str:
    """`text` without what `pattern` finds; line numbers stay."""
    return pattern.sub(lambda found: "\n" * found[0].count("\n"), text)


def prose(page: str) -> str:
    """`page` without code blocks and comments; a line keeps its number."""
    return blanked(COMMENT, blanked(FENCE, page))


def blocks(page: str) -> Iterator[str]:
    """Paragraphs and list items, one line each: a heading, a table or an empty line ends them."""
    lines: list[str] = []
    for line in [*prose(page).splitlines(), ""]:
        inside = bool(lines) and line.startswith(" ")  # a list item that runs on
        ends = not line.strip() or (NO_PROSE.match(line) and not inside) or ITEM.match(line)
        if ends and lines:
            yield " ".join(lines)
            lines = []
        if line.strip() and (inside or not NO_PROSE.match(line)):
            lines.append(ITEM.sub("", line, count=1).strip())


def sentences(page: str) -> list[str]:
    """The sentences of a page's prose; a list item is at least one, a word in backticks counts as one word."""
    plain = [LINK.sub(lambda link: link[2], CODE.sub("Code", block)) for block in blocks(page)]
    return [sentence for block in plain for sentence in STOP.split(block) if words(sentence)]


def words(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def length(page: str) -> Length:
    counts = sorted(words(sentence) for sentence in sentences(page))
    return Length(median(counts), counts[ceil(0.9 * len(counts)) - 1]) if counts else Length(0, 0)


def banned(page: str) -> list[Phrase]:
    """Every banned phrase outside code blocks, in tables too, in the order of the page."""
    text = prose(page)
    found = [
        Phrase(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead)
        for pattern, instead in BANNED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    return sorted(found)


def links(page: str) -> Iterator[str]:
    """Where the page's links and pictures point to inside the repository."""
    for _, text, target in LINK.findall(CODE.sub("", prose(page))):
        yield from links(text)
        if "://" not in target:
            yield target


def anchors(page: str) -> set[str]:
    """The `#anchors` of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+?)\s*$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    return [link for link in links(page.read_text()) if not _leads_somewhere(page, *link.partition("#")[::2])]


def _leads_somewhere(page: Path, path: str, anchor: str) -> bool:
    file = page.parent / path if path else page
    return file.exists() and (not anchor or anchor in anchors(file.read_text()))
