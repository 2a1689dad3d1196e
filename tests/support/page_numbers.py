"""Measured numbers of the pages, and where each comes from.

A number counts as measured if it has a unit or a decimal point, stands alone in a cell of a table, or reads like
"18 of 20", "twice as fast" or "five minutes". Each needs one of:

- a mark, `<!-- from FILE -->`: the number stands in that file, rounded as the page shows it. `<!-- from FILE: PART -->`
  takes a part of the file alone: what lies between `<!-- begin PART -->` and its end, or the lines that have PART; parts
  narrow one after the other. `<!-- from FILE in percent -->` is for shares that the page shows as percents. A mark on a
  line by itself holds down to the next empty line; a mark in a paragraph, list item or row holds for that alone.
- a mark, `<!-- held by TEST -->`, if a test compares the page with what made its numbers.
- a region that a script writes (`<!-- begin benchmarks/NAME.py -->`).
- a table with a column `source`.
- an entry in `docs/numbers.yaml`: why it is no measurement, or which constant of the code it repeats.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from places import ROOT
from prose import CODE, COMMENT, FENCE, ITEM, LINK

REGISTER = ROOT / "docs" / "numbers.yaml"
EVERYWHERE = "everywhere"

MARK = re.compile(
    r"<!-- (?P<how>from|held by) (?P<file>[\w./-]+)(?P<parts>(?:: [^:>]+?)*?)(?P<percent> in percent)? -->"
)
REGIONS = (
    re.compile(r"<!-- begin (?P<name>benchmarks/\w+\.py) -->.*?<!-- end (?P=name) -->", re.DOTALL),
    re.compile(r"<!-- (?P<part>\w+): (?P<name>benchmarks/\w+\.py) -->.*?<!-- end of (?P=part) -->", re.DOTALL),
)
CIRCUMSTANCES = re.compile(r"^(`python benchmarks/.*|.* UTC; .*)$", re.MULTILINE)
"""Command and machine of a section of results: no result."""

VALUE = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+−]?\d+)?"
NUMBER = re.compile(rf"(?<![\w.,/@#-])(?P<value>{VALUE})(?P<after>[-.]?\w*)|(?<=[ (\[|>][-+−])(?P<signed>{VALUE})")
UNIT = re.compile(
    r"\s?(?:%|percent\b|ms\b|µs\b|kB\b|[KMGT]i?B\b)|[\s-](?:s\b|points?\b|(?:milli)?seconds?\b|minutes?\b|hours?\b|days?\b|"
    r"times\b|operations\b|(?:tiles|bags) per second\b)|\s?(?:x|×|-fold)\s(?:as|faster|slower|more|less|fewer)\b"
)
RANGE = re.compile(rf"\s?(?:%\s?)?(?:to|and|or|against|–|-|/|,)\s?(?:about\s)?{VALUE}")
"""What may stand between a number and its unit, as in "1.1 to 1.4 times"."""
COUNT = re.compile(r"(?<![\w.,-])(?P<first>\d[\d,]*) of (?:the )?(?P<second>\d[\d,]*)(?![\w.]*\d)")
WORDS = {"half": 0.5, "twice": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}  # fmt: skip
IN_WORDS = re.compile(
    rf"\b(?P<word>{'|'.join(WORDS)})(?:(?: times)? as (?:fast|slow|long|much|many|large|small)| (?:seconds|minutes|hours))\b",
    re.IGNORECASE,
)
CELL = re.compile(rf"(?:[\s*()\[\]+±<>≤≥~;:/,–−-]|%|to\b|of\b|<br>|{VALUE})+")
"""A cell that holds nothing but numbers."""
HASH = re.compile(r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b")
SCALES = {"%": 100, " s": 1e-9, " ms": 1e3, "kB": 1e-3, "MB": 1e-6, "GB": 1e-9, "KiB": 2**-10, "MiB": 2**-20, "GiB": 2**-30, "minute": 1 / 60, "hour": 1 / 3600}  # fmt: skip


class Source(NamedTuple):
    """What a mark names.

    Attributes
    ----------
    parts : what narrows the search in the file, one after the other.
    percent : whether shares of the file are percents on the page.
    held : whether it is a test that compares the page, and no file of numbers.
    """

    file: str
    parts: tuple[str, ...] = ()
    percent: bool = False
    held: bool = False

    def __str__(self) -> str:
        return ": ".join((self.file, *self.parts))


class Block(NamedTuple):
    """A paragraph, list item, heading or row, with the marks that hold for it.

    Attributes
    ----------
    line : of the page, on which it starts, from 1.
    is_row : of a table, below its head.
    is_told : whether it is a row with something in the column `source`.
    """

    line: int
    text: str
    marks: tuple[Source, ...] = ()
    is_row: bool = False
    is_told: bool = False


class Number(NamedTuple):
    """A measured number: where it starts in its block, how it is written, its line of the page."""

    start: int
    shown: str
    line: int

    @property
    def value(self) -> float:
        return WORDS.get(self.shown.lower()) or float(self.shown.replace(",", "").replace("−", "-"))

    @property
    def half_a_digit(self) -> float:
        """How far the measured number may lie from the one that is shown, as that is rounded."""
        if self.shown.lower() in WORDS:
            return 0.05 if self.shown.lower() == "half" else 0.5
        digits, _, exponent = self.shown.replace("−", "-").partition("e")
        return 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


class Entry(NamedTuple):
    """Words of a page whose numbers are no measurement: why, or the constant `module:NAME` that they repeat."""

    page: str
    words: str
    reason: str

    @property
    def constant(self) -> str:
        return self.reason if re.fullmatch(r"[\w.]+:\w+(\.\w+)*", self.reason) else ""


# ---- blocks ----------------------------------------------------------------------------------------


def blocks(page: str) -> Iterator[Block]:
    """Blocks of a page without code blocks and without what scripts write."""
    for pattern in (FENCE, *REGIONS):
        page = pattern.sub(lambda found: "\n" * found[0].count("\n"), page)
    lines: list[str] = []
    above: tuple[Source, ...] = ()
    heads: list[str] = []
    for number, line in enumerate([*page.splitlines(), ""], 1):
        is_row, is_mark = line.lstrip().startswith("|"), bool(line.strip()) and not COMMENT.sub("", line).strip()
        if lines and (not line.strip() or is_row or is_mark or line.startswith("#") or ITEM.match(line)):
            yield Block(number - len(lines), "\n".join(lines), (*above, *marks("\n".join(lines))))
            lines = []
        if not line.strip():
            above, heads = (), []
        elif is_mark:
            above = (*above, *marks(line))
        elif is_row:
            cells = cells_of(line)
            is_told = bool(heads) and heads[-1] == "source" and bool(cells[-1])
            yield Block(number, line, (*above, *marks(line)), is_row=bool(heads), is_told=is_told)
            heads = heads or cells
        else:
            lines.append(line)


def marks(text: str) -> tuple[Source, ...]:
    """The sources that the marks of a text name; a mark in backticks is an example."""
    return tuple(
        Source(mark["file"], tuple(mark["parts"].split(": ")[1:]), bool(mark["percent"]), mark["how"] == "held by")
        for mark in MARK.finditer(CODE.sub("", text))
    )


def cells_of(row: str) -> list[str]:
    """Cells of a row of a table."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


# ---- numbers ---------------------------------------------------------------------------------------


def numbers(block: Block) -> list[Number]:
    """The measured numbers of a block, in their order."""
    text = hidden(block.text)
    bare = set(bare_places(text)) if block.is_row else set()
    spans = {match.start("value"): match["value"] for match in NUMBER.finditer(text) if is_measured(match, text, bare)}
    spans |= {match.start("signed"): match["signed"] for match in NUMBER.finditer(text) if match["signed"]}
    spans |= {match.start(part): match[part] for match in COUNT.finditer(text) for part in ("first", "second")}
    spans |= {match.start("word"): match["word"] for match in IN_WORDS.finditer(text)}
    return [Number(start, spans[start], block.line + text.count("\n", 0, start)) for start in sorted(spans)]


def hidden(text: str) -> str:
    """`text` with spaces for code, comments, hashes and targets of links; every other character keeps its place."""
    for pattern in (COMMENT, CODE, HASH):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return LINK.sub(lambda link: f"{link[1]}[{link[2]}](" + " " * len(link[3]) + ")", text)


def is_measured(match: re.Match[str], text: str, bare: set[int]) -> bool:
    """Whether a number has a unit or a decimal point, or stands alone in its cell, and is no part of a name or version."""
    value, after, end = match["value"], match["after"], match.end("value")
    if not value or (after[:1] == "." and after[1:2].isdigit()):
        return False
    if UNIT.match(text, end) or match.start("value") in bare:
        return True
    if after.strip(".") not in ("", "x") and not after.startswith("-"):
        return False
    between = RANGE.match(text, end)
    return "." in value or "e" in value or bool(between and UNIT.match(text, between.end()))


def bare_places(row: str) -> Iterator[int]:
    """Places of a row in cells that hold nothing but numbers; the first cell names the row."""
    bars = [match.start() for match in re.finditer(r"\|", row)]
    for start, end in list(pairwise(bars))[1:]:
        if CELL.fullmatch(row[start + 1 : end]):
            yield from range(start + 1, end)


# ---- sources ---------------------------------------------------------------------------------------


def without_source(page: str, name: str, register: Iterable[Entry], root: Path = ROOT) -> Iterator[str]:
    """Messages about the measured numbers of a page that nothing accounts for."""
    entries = [entry for entry in register if entry.page in (name, EVERYWHERE)]
    for block in blocks(page):
        for number in left_over(block, entries, name, root):
            seen = '"' + " ".join(block.text[max(0, number.start - 40) : number.start + 40].split()) + '"'
            what = f"does not stand in {' or '.join(map(str, block.marks))}" if block.marks else "has no source"
            yield f"{name}:{number.line}: {number.shown} {what}: {seen}"


def left_over(block: Block, entries: Iterable[Entry], name: str, root: Path = ROOT) -> list[Number]:
    """The measured numbers of a block that nothing accounts for, in their order."""
    excused = [span for entry in entries for span in spans_of(entry.words, block.text)]
    left = [each for each in numbers(block) if not any(start <= each.start < end for start, end in excused)]
    found = set(left) if block.is_told else found_in(left, block, name, root)
    return [number for number in left if number not in found]


def spans_of(words: str, text: str) -> Iterator[tuple[int, int]]:
    """Where words stand in a text, over lines too."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    return (match.span() for match in re.finditer(rf"(?<![\w.]){pattern}s?(?!\w|\.\d)", text))


def found_in(wanted: list[Number], block: Block, name: str, root: Path) -> set[Number]:
    """Those of a block's numbers that its sources have; of a row, those that stand in one line of each source."""
    found: set[Number] = set()
    for source in block.marks:
        text = part_of(source, root)
        if source.held:
            found |= set(wanted) if Path(name).name in text or "PLACE.on(" in text else set()
            continue
        lines = text.splitlines() if block.is_row else [text]
        factors = (1, 100) if source.percent else (1,)
        found |= max(
            ({each for each in wanted if is_in(each, line, factors)} for line in lines), key=len, default=set()
        )
    return found


def is_in(number: Number, text: str, factors: Iterable[float] = (1,)) -> bool:
    """Whether a text has a number that is this one once it is rounded so; a sign counts for nothing."""
    allowed = number.half_a_digit * (1 + 1e-6) + 1e-12
    return any(abs(value * factor - number.value) <= allowed for value in values_of(text) for factor in factors)


@cache
def values_of(text: str) -> tuple[float, ...]:
    """Every number of a text that is no part of a name."""
    return tuple(
        float(value.replace(",", "").replace("−", "-")) for value in re.findall(rf"(?<![A-Za-z_.\d]){VALUE}", text)
    )


@cache
def part_of(source: Source, root: Path = ROOT) -> str:
    """The text that a mark names; empty if the file or a part of it is not there."""
    path = root / source.file
    text = CIRCUMSTANCES.sub("", path.read_text(encoding="utf-8")) if path.is_file() else ""
    for part in source.parts:
        region = re.search(rf"<!-- begin {re.escape(part)} -->(.*?)<!-- end {re.escape(part)} -->", text, re.DOTALL)
        text = region[1] if region else "\n".join(line for line in text.splitlines() if part in line)
    return text


# ---- the register ----------------------------------------------------------------------------------


def register(path: Path = REGISTER) -> list[Entry]:
    """Entries of `docs/numbers.yaml`: page, then reason or constant, then the words."""
    content: dict[str, dict[str, list[str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Entry(page, words, reason)
        for page, reasons in content.items()
        for reason, listed in reasons.items()
        for words in listed
    ]


def constant(name: str) -> Any:
    """The value of `module:NAME` or `module:Class.attribute`; a field of a dataclass is its default."""
    module, _, path = name.partition(":")
    value: Any = importlib.import_module(module)
    for attribute in path.split("."):
        value = getattr(value, attribute)
    return value


def repeats(words: str, value: float) -> bool:
    """Whether words have a number that is `value`, in its own unit or in the unit that they name."""
    factors = [1.0, *(factor for unit, factor in SCALES.items() if unit in words)]
    shown = [Number(0, found, 0) for found in re.findall(rf"{VALUE}|\b(?:{'|'.join(WORDS)})\b", words)]
    return any(abs(value * factor - each.value) <= each.half_a_digit for each in shown for factor in factors)
