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
SOURCE = re.compile(r"(?<![\w/.])(?:milbench|baselines|benchmarks|tests)/[\w/]+\.(?:py|csv|md|json)\b")
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
STOP = re.compile(r"(?<!\bal)(?<!\beq)(?<!\bFig)(?<!\bAlg)(?<!e\.g)(?<!i\.e)(?<!\.\.)[.!?][\"”)*_]*\s+")  # not "et al."

PER = (
    r"task|trial|epoch|slide|fold|cohort|second|patient|worker|GPU|gene|model|step|patch|core|place|seed|side|expert|"
    r"channel|bag|file|folder|column|row|run|job|node|site|class|parameter|minute|month|process|map|request|region|mixture|"
    r"figure|table|X"  # X stands for the value in a message
)
LINKING = r"for|of|in|on|by|to|with|from|at|than|and|or|after"
COUNTED = (
    r"bags|bag-steps|multiply-adds|mutations|patients|variance|bytes|[GM]B|numbers|values|patches|slides|rows|trials|hours|"
    r"milliseconds|ms|workers|once"
)
BANNED = {
    rf"\b(?:one(?:\s+[\w-]+)?\s+(?!(?:{LINKING})\b)[\w-]*[^\Ws]|\d[\d,.]*\s+(?:[\w-]+\s+)?[\w-]+s|{COUNTED})\s+an?\s+(?:{PER})\b": "per",
    rf"\bone\s+an?\s+(?:{PER})\b": "per",  # "one a slide"
    r"\bone\s+(?:row|entry|line|box|dot)\s+an?\s+\(": "per",  # "one row a (task, model)"
    rf"\ban?\s+(?:CSV|column|row|line)\s+an?\s+(?:{PER})\b": "per",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bfor\s+want\s+of\b": "because",
    r"\bbut\s+for\b": "except",
    r"\bthrow(?:s|n)?\s+away\b": "delete",
}


class Length(NamedTuple):
    """Words per sentence of one page."""

    median: float
    ninety: int  # nine sentences in ten have at most so many


class Sentence(NamedTuple):
    """A sentence, the line on which its paragraph starts, and its number of words."""

    line: int
    text: str
    words: int


class Phrase(NamedTuple):
    """A banned phrase, the line it starts on, and the word to take in its place."""

    line: int
    found: str
    instead: str


def prose(page: str) -> str:
    """`page` with code blocks and comments empty; a line keeps its number."""
    for pattern in (FENCE, COMMENT):
        page = pattern.sub(lambda found: "\n" * found[0].count("\n"), page)
    return page


def blocks(page: str) -> Iterator[tuple[int, str]]:
    """Paragraphs and list items with the line they start on: a heading, a table or an empty line ends them."""
    lines: list[str] = []
    for number, line in enumerate([*prose(page).splitlines(), ""], start=1):
        is_prose = bool(line.strip()) and ((bool(lines) and line.startswith(" ")) or not NO_PROSE.match(line))
        if lines and (ITEM.match(line) or not is_prose):
            yield number - len(lines), " ".join(lines)
            lines = []
        if is_prose:
            lines.append(ITEM.sub("", line, count=1).strip())


def sentences(page: str) -> list[Sentence]:
    """The sentences of a page's prose; a list item is at least one, what stands in backticks counts as one word."""
    plain = [(line, LINK.sub(lambda link: link[2], CODE.sub("Code", block))) for line, block in blocks(page)]
    found = [Sentence(line, text, words(text)) for line, block in plain for text in STOP.split(block)]
    return [sentence for sentence in found if sentence.words]


def words(text: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def length(page: str) -> Length:
    """Words per sentence; zeros for a page without a sentence."""
    counts = sorted(sentence.words for sentence in sentences(page))
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


def sources(page: str) -> set[str]:
    """The repository's own files that a page names by their path, in code too; NAME stands for a file to come."""
    return {path for path in SOURCE.findall(page) if not Path(path).stem.isupper() or path.endswith(".md")}
