"""Numbers: every number of a report's texts, made again from the predictions and held against what lies there."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from milbench.bundles.difference import Difference, number_difference
from milbench.report import Recomputed

CLOSE = 1e-9
"""Relative difference of numbers in full precision below which they are equal: another processor may add in another order."""

NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
PAGE, MARKDOWN = "index.html", "index.md"
_BLOCK = re.compile(r'<script type="application/json" id="data-(\w+)">(.*?)</script>', re.DOTALL)
_LEFT_OUT = re.compile(r"<(script|style|figure)\b.*?</\1>", re.DOTALL)
PICTURES = "pictures"


@dataclass
class Comparison:
    """What was counted so far, and what differs."""

    n_numbers: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, file: str, row: str, column: str, found: str, recomputed: str) -> None:
        """Count a cell if it is a number, and note it if it differs."""
        self.n_numbers += bool(NUMBER.fullmatch(recomputed) or NUMBER.fullmatch(found))
        if found != recomputed and not _close(found, recomputed):
            self.differences.append(number_difference(file, row, column, found, recomputed))


def compare(recomputed: Recomputed, report: Path, prefix: str) -> Comparison:
    """What the report in a folder says against the same report made anew.

    Parameters
    ----------
    prefix : how the folder is called before a file's name, such as "report/".
    """
    comparison = Comparison()
    for name, text in recomputed.texts.items():
        found = _text(report / name)
        if found is None:
            comparison.differences.append(Difference(f"{prefix}{name}", "is missing, or no text"))
        elif name.endswith(".csv"):
            _compare_csv(comparison, f"{prefix}{name}", found, text)
        else:
            _compare_lines(comparison, f"{prefix}{name}", found, text)
    page = _text(report / PAGE)
    if page is None:
        comparison.differences.append(Difference(f"{prefix}{PAGE}", "is missing, or no text"))
    else:
        _compare_page(comparison, f"{prefix}{PAGE}", page, recomputed.page)
    _compare_index(comparison, f"{prefix}{MARKDOWN}", _text(report / MARKDOWN) or "", recomputed.texts)
    return comparison


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _compare_csv(comparison: Comparison, file: str, found: str, recomputed: str) -> None:
    """Cell by cell; rows are numbered from 1 without the head."""
    theirs, ours = (list(csv.reader(io.StringIO(text))) for text in (found, recomputed))
    heads = ours[0] if ours else []
    if theirs[:1] != ours[:1]:
        comparison.differences.append(Difference(file, "has other columns than the recomputed table"))
        return
    for number, (their_row, our_row) in enumerate(zip_longest(theirs[1:], ours[1:]), start=1):
        if their_row is None or our_row is None or len(their_row) != len(our_row):
            what = "is missing" if their_row is None else "should not be there" if our_row is None else "is cut"
            comparison.differences.append(Difference(file, what, str(number)))
            continue
        for head, their_cell, our_cell in zip(heads, their_row, our_row, strict=True):
            comparison.add(file, str(number), head, their_cell, our_cell)


def _compare_lines(comparison: Comparison, file: str, found: str, recomputed: str) -> None:
    """Line by line: each number by its place in the line, then the words around."""
    for line, (theirs, ours) in enumerate(zip_longest(found.splitlines(), recomputed.splitlines()), start=1):
        if theirs is None or ours is None:
            what = "is missing" if theirs is None else "should not be there"
            comparison.differences.append(Difference(file, what, str(line)))
            continue
        their_numbers, our_numbers = NUMBER.findall(theirs), NUMBER.findall(ours)
        if NUMBER.sub("#", theirs) != NUMBER.sub("#", ours) or len(their_numbers) != len(our_numbers):
            comparison.differences.append(Difference(file, "says something else than the recomputed text", str(line)))
            continue
        for place, (their_number, our_number) in enumerate(zip(their_numbers, our_numbers, strict=True), start=1):
            comparison.add(file, str(line), f"number {place}", their_number, our_number)


def _compare_page(comparison: Comparison, file: str, found: str, recomputed: str) -> None:
    """The page's data, value by value, and then its words; pictures, scripts and styles are left out."""
    theirs, ours = (dict(_BLOCK.findall(text)) for text in (found, recomputed))
    for name, block in ours.items():
        try:
            there = json.loads(theirs[name])
        except (KeyError, ValueError, RecursionError):
            comparison.differences.append(Difference(file, f"has no data called {name} that can be read"))
            continue
        _compare_values(comparison, file, name, there, json.loads(block))
    _compare_lines(comparison, file, *(_LEFT_OUT.sub("", text) for text in (found, recomputed)))


def _compare_values(comparison: Comparison, file: str, place: str, found: Any, recomputed: Any) -> None:
    """Two JSON values, by the path that leads to each number."""
    if isinstance(recomputed, Mapping) and isinstance(found, Mapping):
        for key in sorted((found.keys() | recomputed.keys()) - {PICTURES}):
            _compare_values(comparison, file, f"{place}.{key}", found.get(key), recomputed.get(key))
    elif isinstance(recomputed, list) and isinstance(found, list):
        for number, (theirs, ours) in enumerate(zip_longest(found, recomputed), start=1):
            _compare_values(comparison, file, f"{place}[{number}]", theirs, ours)
    elif found != recomputed or _is_number(recomputed):
        comparison.add(file, place, "", _cell(found), _cell(recomputed))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _compare_index(comparison: Comparison, file: str, text: str, texts: Mapping[str, str]) -> None:
    """Whether the page in Markdown holds each recomputed table as it is; its numbers are counted in the tables' own files."""
    for name in _without(text, [name for name in texts if name.endswith(".md")], texts):
        comparison.differences.append(Difference(file, f"does not hold the recomputed {name}"))


def _without(text: str, names: Sequence[str], texts: Mapping[str, str]) -> Iterator[str]:
    return (name for name in names if texts[name] not in text)


def _close(found: str, recomputed: str) -> bool:
    try:
        return math.isclose(float(found), float(recomputed), rel_tol=CLOSE, abs_tol=1e-12)
    except ValueError:
        return False
