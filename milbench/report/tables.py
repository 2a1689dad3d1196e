"""Tables: one frozen table -> LaTeX (booktabs), CSV and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from milbench.report.latex import latex
from milbench.store.csv_files import spreadsheet_csv
from milbench.visible import visible_line

WIDEST = 10
"""Columns that fit across a landscape page; a wider table is broken into parts."""

LARGE_COLUMNS = 8
"""Columns that fit across a landscape page at a larger type size."""

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
    """A row of a table.

    Attributes
    ----------
    rule : whether a line stands above it.
    below : a second, smaller line below the title.
    continues : whether it says more of the row above, so that no page may part the two.
    """

    title: str
    cells: tuple[Cell, ...]
    rule: bool = False
    below: str = ""
    continues: bool = False


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
    """

    name: str
    caption: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    data: pd.DataFrame
    settings: bool = False
    kind: str = ""


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
        below = MARKDOWN.small(markdown(row.below)) if row.below else ""
        lines.append(f"| {markdown(row.title)}{below} | {' | '.join(texts)} |")
    settings = f" Settings: {SETTINGS}." if table.settings else ""
    return "\n".join([*lines, "", markdown(table.caption + settings), ""])


def to_latex(table: Table) -> str:
    """`table` environments that need booktabs only, as many as the columns and rows need; best bold, second underlined."""
    spans = [(table.columns[at : at + WIDEST], at) for at in range(0, len(table.columns), WIDEST)]
    pages = [(rows, columns, at) for columns, at in spans for rows in _pages(table, columns)]
    return "\n".join(
        _environment(table, rows, columns, at, number, len(pages))
        for number, (rows, columns, at) in enumerate(pages, start=1)
    )


PAGE, LINE, LETTERS = 490.0, 12.0, 165
"""Of a landscape page of A4: points from top to bottom, points of a caption's line, letters in it."""


def _pages(table: Table, columns: tuple[str, ...]) -> list[list[Row]]:
    """Rows by page, about as many on each; a row that continues another stands on its page."""
    blocks: list[list[Row]] = []
    for row in table.rows:
        if row.continues and blocks:
            blocks[-1].append(row)
        else:
            blocks.append([row])
    heights = [sum(_height(row, columns) for row in block) for block in blocks]
    room = PAGE - LINE * (3 + len(table.caption) // LETTERS)
    n_pages = max(1, math.ceil(sum(heights) / room))
    found: list[list[Row]] = [[] for _ in range(n_pages)]
    above = 0.0
    for block, height in zip(blocks, heights, strict=True):
        found[min(int(above / (sum(heights) / n_pages)), n_pages - 1)] += block
        above += height
    return [rows for rows in found if rows]


def _height(row: Row, columns: tuple[str, ...]) -> float:
    """Points of a row in LaTeX, at most."""
    line, tiny = (11.5, 7.0) if len(columns) <= LARGE_COLUMNS else (10.0, 7.0)
    lines = max((cell.below.count("\n") + 1 for cell in row.cells if cell.below), default=1 if row.below else 0)
    return line + (max(line, tiny * lines) + 1 if lines else 0)


def _environment(
    table: Table, rows: Sequence[Row], columns: tuple[str, ...], start: int, number: int, parts: int
) -> str:
    of = f" Part {number} of {parts}." if parts > 1 else ""
    caption = latex(table.caption + of) + (rf" Settings: Table~\ref{{tab:{SETTINGS}}}." if table.settings else "")
    is_cited = table.name == SETTINGS and number == 1  # captions refer to it
    label = table.name + (f"-{number}" if parts > 1 and not is_cited else "")
    lines = [
        r"\begin{table}[htbp]", r"\centering", CLEAR_OF_RULES, rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}",
        _size(len(columns)), rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule",
        " & ".join([latex(table.head), *map(_latex_head, columns)]) + r" \\", r"\midrule",
    ]  # fmt: skip
    for row in rows:
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
    if row.below or any(cell.below for cell in cells):
        below = LATEX.small(latex(row.below)) if row.below else ""
        lines.append(" & ".join([below, *map(LATEX.below, cells)]) + r" \\[1pt]")
    return lines


def _size(columns: int) -> str:
    """Type size with which so many columns fit across a landscape page."""
    return r"\small" if columns <= LARGE_COLUMNS else r"\footnotesize\setlength{\tabcolsep}{4pt}"
