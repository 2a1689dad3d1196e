"""Tables: one frozen table -> LaTeX (booktabs), CSV and Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from milbench.report.latex import latex
from milbench.store.csv_files import spreadsheet_csv
from milbench.visible import visible_line

WIDEST = 10
"""Columns that fit across a landscape page; a wider table is broken into parts."""

DAGGER = "†"

SETTINGS = "settings"
"""Name of the table that says how all numbers came about."""


@dataclass(frozen=True)
class Cell:
    """What one place of a table shows.

    Attributes
    ----------
    text : the number as printed.
    below : a second, smaller line, such as the interval; several if it has line ends.
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
    settings : whether its numbers came about by the settings that the table of settings holds; the caption says so.
    kind : of the tasks that it speaks of; "" where it is of all.
    n_words : how many of the first columns hold words, which stand to the left and in one line.
    """

    name: str
    caption: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    data: pd.DataFrame
    settings: bool = False
    kind: str = ""
    n_words: int = 0


@dataclass(frozen=True)
class Markup:
    """How a language writes a cell.

    Attributes
    ----------
    bold, underline, small : markup around text that is escaped already.
    escape : plain text with what the language would take for markup made harmless.
    stack : small lines that are set already, one above the other.
    """

    bold: Callable[[str], str]
    underline: Callable[[str], str]
    small: Callable[[str], str]
    escape: Callable[[str], str]
    stack: Callable[[list[str]], str]

    def text(self, cell: Cell) -> str:
        """The cell's number; the best one bold, the second underlined."""
        style = {"best": self.bold, "second": self.underline}.get(cell.style, str)
        return style(self.escape(cell.text))

    def below(self, cell: Cell) -> str:
        """The cell's second, smaller line or lines, or nothing."""
        lines = [self.small(self.escape(line)) for line in cell.below.splitlines()]
        return self.stack(lines) if len(lines) > 1 else "".join(lines)


def markdown(text: str) -> str:
    """`text` in one line, with what Markdown or HTML would take for markup made harmless."""
    text = visible_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", r"\|")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text)  # inside a word an underscore stays one


MARKDOWN = Markup("**{}**".format, "<u>{}</u>".format, "<br><sub>{}</sub>".format, markdown, "".join)
CLEAR_OF_RULES = r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}"
"""LaTeX's classes leave no room below a caption that stands above; inside the float it changes no other."""


def _latex_stack(lines: list[str]) -> str:
    one_above_the_other = r"\\".join(lines)
    return rf"\shortstack[r]{{{one_above_the_other}}}"


LATEX = Markup(r"\textbf{{{}}}".format, r"\underline{{{}}}".format, r"{{\tiny {}}}".format, latex, _latex_stack)


def to_csv(table: Table) -> str:
    """The table's data, full precision, empty where there is none."""
    return spreadsheet_csv(table.data)


def to_markdown(table: Table) -> str:
    """A Markdown table; best bold, second underlined."""
    lines = [
        f"| {table.head} | {' | '.join(map(markdown, table.columns))} |",
        "|---" * (len(table.columns) + 1) + "|",
    ]
    for row in table.rows:
        texts = [MARKDOWN.text(cell) + MARKDOWN.below(cell) for cell in row.cells]
        lines.append(f"| {markdown(row.title)} | {' | '.join(texts)} |")
    settings = f" Settings: {SETTINGS}." if table.settings else ""
    return "\n".join([*lines, "", markdown(table.caption + settings), ""])


def to_latex(table: Table) -> str:
    """`table` environments that need booktabs only, one for every ten columns; best bold, second underlined."""
    starts = range(0, len(table.columns), WIDEST)
    return "\n".join(_environment(table, start, number, len(starts)) for number, start in enumerate(starts, start=1))


def _environment(table: Table, start: int, number: int, parts: int) -> str:
    columns = table.columns[start : start + WIDEST]
    of = f" Part {number} of {parts}." if parts > 1 else ""
    caption = latex(table.caption + of) + (rf" Settings: Table~\ref{{tab:{SETTINGS}}}." if table.settings else "")
    label = table.name + (f"-{number}" if parts > 1 else "")
    words = max(table.n_words - start, 0)
    lines = [
        r"\begin{table}[htbp]", r"\centering", CLEAR_OF_RULES, rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}",
        _size(len(columns)), rf"\begin{{tabular}}{{l{'l' * words}{'r' * (len(columns) - words)}}}", r"\toprule",
        " & ".join([latex(table.head), *map(_latex_head, columns)]) + r" \\", r"\midrule",
    ]  # fmt: skip
    for row in table.rows:
        lines += _latex_row(row, row.cells[start : start + WIDEST])
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


LONGEST_HEAD = 14
"""Letters of a column's head beyond which it stands in two lines, so that a table fits its page."""


def _latex_head(text: str) -> str:
    """The head of a column, broken at the blank nearest its middle where it is long."""
    blanks = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) <= LONGEST_HEAD or not blanks:
        return latex(text)
    middle = min(blanks, key=lambda place: abs(place - len(text) / 2))
    return rf"\shortstack[r]{{{latex(text[:middle])}\\{latex(text[middle + 1 :])}}}"


def _latex_row(row: Row, cells: tuple[Cell, ...]) -> list[str]:
    """One line, or two where a cell has something below."""
    lines = [r"\midrule"] if row.rule else []
    lines.append(" & ".join([latex(row.title), *map(LATEX.text, cells)]) + r" \\")
    if any(cell.below for cell in cells):
        lines.append(" & ".join(["", *map(LATEX.below, cells)]) + r" \\[1pt]")
    return lines


def _size(columns: int) -> str:
    """Type size with which so many columns fit across a landscape page."""
    return r"\small" if columns <= 8 else r"\footnotesize\setlength{\tabcolsep}{4pt}"
