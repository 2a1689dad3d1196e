"""Tables: one frozen table -> LaTeX (booktabs), CSV and Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

LATEX_SPECIAL = str.maketrans(
    {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}",
     "±": r"$\pm$", "×": r"$\times$", "–": "--", "−": r"$-$", "Δ": r"$\Delta$", "≥": r"$\geq$", "≤": r"$\leq$",
     "†": r"$^{\dagger}$", "µ": r"$\mu$"}
)  # fmt: skip

WIDEST = 10
"""Columns that fit across a landscape page; a wider table is broken into parts."""

DAGGER = "†"


@dataclass(frozen=True)
class Cell:
    """What one place of a table shows.

    Attributes
    ----------
    text : the number as printed.
    below : a second, smaller line, such as the interval.
    style : "best", "second" or nothing.
    """

    text: str = "–"
    below: str = ""
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `rule` draws a line above it."""

    title: str
    cells: tuple[Cell, ...]
    rule: bool = False


@dataclass(frozen=True)
class Table:
    """Rows × columns of cells with a caption.

    Attributes
    ----------
    name : file stem and LaTeX label.
    head : what the first column is called.
    data : the same numbers in full precision and long form: the CSV.
    """

    name: str
    caption: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    data: pd.DataFrame


def to_csv(table: Table) -> str:
    """The table's data, full precision, empty where there is none."""
    return str(table.data.to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Table) -> str:
    """A Markdown table; best bold, second underlined."""
    styles: dict[str, Callable[[str], str]] = {"best": "**{}**".format, "second": "<u>{}</u>".format}
    lines = [
        f"| {table.head} | {' | '.join(map(_markdown, table.columns))} |",
        "|---" * (len(table.columns) + 1) + "|",
    ]
    for row in table.rows:
        texts = [_two_lines(cell, styles, _markdown, "<br><sub>{}</sub>".format) for cell in row.cells]
        lines.append(f"| {_markdown(row.title)} | {' | '.join(texts)} |")
    return "\n".join([*lines, "", table.caption, ""])


def to_latex(table: Table) -> str:
    """`table` environments that need booktabs only, one for every ten columns; best bold, second underlined."""
    starts = range(0, len(table.columns), WIDEST)
    return "\n".join(_environment(table, start, number, len(starts)) for number, start in enumerate(starts, start=1))


def _environment(table: Table, start: int, number: int, parts: int) -> str:
    columns = table.columns[start : start + WIDEST]
    of = f" Part {number} of {parts}." if parts > 1 else ""
    label = table.name + (f"-{number}" if parts > 1 else "")
    lines = [
        r"\begin{table}[htbp]", r"\centering", rf"\caption{{{latex(table.caption + of)}}}", rf"\label{{tab:{label}}}",
        _size(len(columns)), rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule",
        " & ".join([latex(table.head), *map(latex, columns)]) + r" \\", r"\midrule",
    ]  # fmt: skip
    for row in table.rows:
        lines += _latex_row(row, row.cells[start : start + WIDEST])
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_row(row: Row, cells: tuple[Cell, ...]) -> list[str]:
    """One line, or two where a cell has something below."""
    styles: Mapping[str, Callable[[str], str]] = {"best": r"\textbf{{{}}}".format, "second": r"\underline{{{}}}".format}
    first = [styles.get(cell.style, str)(latex(cell.text)) for cell in cells]
    lines = [r"\midrule"] if row.rule else []
    lines.append(" & ".join([latex(row.title), *first]) + r" \\")
    if any(cell.below for cell in cells):
        second = [rf"{{\tiny {latex(cell.below)}}}" if cell.below else "" for cell in cells]
        lines.append(" & ".join(["", *second]) + r" \\[1pt]")
    return lines


def _two_lines(
    cell: Cell, styles: Mapping[str, Callable[[str], str]], escape: Callable[[str], str], small: Callable[[str], str]
) -> str:
    text = styles.get(cell.style, str)(escape(cell.text))
    return text + small(escape(cell.below)) if cell.below else text


def _size(columns: int) -> str:
    """Type size with which so many columns fit across a landscape page."""
    return r"\small" if columns <= 8 else r"\footnotesize\setlength{\tabcolsep}{4pt}"


def _markdown(text: str) -> str:
    """`text` with what Markdown or HTML would take for markup made harmless."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", r"\|")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text)  # inside a word an underscore stays one


def latex(text: str) -> str:
    """`text` as LaTeX with the fonts of texlive-latex-base: special characters escaped, others named.

    Letters of Latin-1 pass; accented ones beyond it lose no accent (LaTeX composes them); Greek is set as math where
    LaTeX has a command; anything else becomes its code point, for a missing glyph would vanish without a word.
    """
    return "".join(_latex_character(character) for character in unicodedata.normalize("NFC", text))


_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0306": "u",
            "\u0307": ".", "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k"}  # fmt: skip


def _latex_character(character: str) -> str:
    escaped = LATEX_SPECIAL.get(ord(character))
    if escaped is not None:
        return str(escaped)
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") or name.startswith("GREEK CAPITAL LETTER "):
        return _greek(name)
    return rf"\texttt{{U+{ord(character):04X}}}"


GREEK_LIKE_LATIN = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K", "MU": "M",
    "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X", "UPSILON": "Y",
}  # fmt: skip
"""Capitals that look as their Latin sisters and have no command of their own."""


def _greek(name: str) -> str:
    _, size, _, *rest = name.split()
    letter = {"LAMDA": "lambda"}.get(rest[0], rest[0].lower())
    if size == "CAPITAL":
        if rest[0] in GREEK_LIKE_LATIN:
            return GREEK_LIKE_LATIN[rest[0]]
        return rf"$\{letter.capitalize()}$"
    return {"omicron": "o", "final": r"$\varsigma$"}.get(letter, rf"$\{letter}$")
