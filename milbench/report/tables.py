"""Tables: rows of scores -> LaTeX (booktabs), CSV and Markdown, all from one frozen table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from milbench.stats import coverage

ABLATION = ("amil", "mmoe_amil", "mmoe_mp_amil", "m4")
"""Rows of the study's Table 3, each adding one part."""

PAPERS_COHORTS = frozenset({"tcga-brca", "tcga-crc", "tcga-gbmlgg", "tcga-luad", "tcga-ucec"})
"""What the paper's average is over; beside an average over anything else it would mislead."""

LATEX_SPECIAL = str.maketrans(
    {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "×": r"$\times$", "–": "--"}
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes
    ----------
    mean, sd : NaN where there is none.
    n_missing : cells of the grid that the mean lacks; such a mean is not comparable and is not printed.
    n_cells : cells of the whole grid.
    published : the paper's number; NaN where it has none.
    """

    mean: float = math.nan
    sd: float = math.nan
    n_missing: int = 0
    n_cells: int = 0
    published: float = math.nan

    @property
    def comparable(self) -> float:
        """The mean where it may be ranked, else NaN."""
        return math.nan if self.n_missing else self.mean


@dataclass(frozen=True)
class Table:
    """Rows × columns of cells with a caption.

    Attributes
    ----------
    name : file stem and LaTeX label.
    rows : (title, cells) in the order of print.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    def ranks(self) -> dict[tuple[int, int], str]:
        """ "best" and "second" by (row, column), as printed to three decimals; ties share."""
        marks: dict[tuple[int, int], str] = {}
        for column in range(len(self.columns)):
            values = [round(cells[column].comparable, 3) for _, cells in self.rows]
            top = sorted({value for value in values if not math.isnan(value)}, reverse=True)[:2]
            for row, value in enumerate(values):
                if value in top and len(self.rows) > 1:
                    marks[row, column] = "best" if value == top[0] else "second"
        return marks


def model_table(
    name: str, caption: str, summary: pd.DataFrame, titles: Mapping[str, str], published: pd.DataFrame
) -> Table:
    """Models × cohorts, and their average where there are several.

    Parameters
    ----------
    summary : rows of `milbench.stats.summary`.
    titles : how each dataset is called, in the order of the columns.
    published : rows (cohort, model, auroc) of the paper's table.
    """
    known = {(row.cohort, row.model): row.auroc for row in published.itertuples()}
    paper_average = "average" if set(titles) == PAPERS_COHORTS else None
    rows = []
    for model, group in summary.groupby("model", sort=False):
        by_dataset = {row.dataset: row for row in group.itertuples()}
        cells = [_cell(by_dataset.get(dataset), known.get((dataset, model), math.nan)) for dataset in titles]
        if len(titles) > 1:
            cells.append(_average(cells, known.get((paper_average, model), math.nan)))
        rows.append((str(group["title"].iloc[0]), tuple(cells)))
    columns = (*titles.values(), "Average") if len(titles) > 1 else tuple(titles.values())
    if any(not math.isnan(cell.published) for _, cells in rows for cell in cells):
        caption += " In brackets: the paper's number."
    return Table(name, caption, columns, tuple(rows))


def task_table(name: str, caption: str, scores: pd.DataFrame) -> Table:
    """Models × tasks of one dataset, mean and spread over folds and seeds; control tasks included."""
    tasks = list(dict.fromkeys(scores["task"]))
    titles = dict(zip(scores["model"], scores["title"], strict=True))
    columns = [_task_cells(scores[scores["task"] == task], list(titles)) for task in tasks]
    rows = tuple((str(title), tuple(cells)) for title, *cells in zip(titles.values(), *columns, strict=True))
    return Table(name, caption, tuple(tasks), rows)


def _task_cells(scores: pd.DataFrame, models: Sequence[str]) -> list[Cell]:
    """One cell a model; `scores` are the rows of one task."""
    covered = coverage(scores)
    n_cells = max(entry.n_cells for entry in covered.values())
    cells = []
    for model in models:
        values = scores.loc[scores["model"] == model, "auroc"].dropna()
        missing = covered[model].n_missing if model in covered else n_cells
        cells.append(Cell(values.mean(), values.std(ddof=1), missing, n_cells))
    return cells


def _cell(row: Any, published: float) -> Cell:
    if row is None:
        return Cell(published=published)
    return Cell(row.mean, row.sd, row.n_missing, row.n_cells, published)


def _average(cells: Sequence[Cell], published: float) -> Cell:
    """Plain mean over the cohorts; none unless every cohort has a comparable number."""
    return Cell(mean=sum(cell.comparable for cell in cells) / len(cells), published=published)


# ---- rendering -----------------------------------------------------------------------------------


def to_latex(table: Table) -> str:
    """A `table` environment that needs booktabs only; best bold, second underlined, the paper's number in brackets."""
    marks = table.ranks()
    styles: dict[str, Callable[[str], str]] = {"best": r"\textbf{{{}}}".format, "second": r"\underline{{{}}}".format}
    lines = [
        r"\begin{table}[htbp]", r"\centering", rf"\caption{{{latex(table.caption)}}}", rf"\label{{tab:{table.name}}}",
        _size(len(table.columns)), rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule",
        " & ".join(["Method", *map(latex, table.columns)]) + r" \\", r"\midrule",
    ]  # fmt: skip
    for row, (title, cells) in enumerate(table.rows):
        texts = [latex(title)]
        for column, cell in enumerate(cells):
            style = styles.get(marks.get((row, column), ""), str)
            texts.append(_text(cell, style, r" {\scriptsize $\pm$ ", "}", latex))
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _size(columns: int) -> str:
    """Type size with which so many columns fit across a landscape page."""
    return r"\small" if columns <= 8 else r"\footnotesize\setlength{\tabcolsep}{3pt}"


def to_markdown(table: Table) -> str:
    """A Markdown table; best bold, second underlined, the paper's number in brackets."""
    marks = table.ranks()
    styles: dict[str, Callable[[str], str]] = {"best": "**{}**".format, "second": "<u>{}</u>".format}
    lines = [f"| Method | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
    for row, (title, cells) in enumerate(table.rows):
        texts = [
            _text(cell, styles.get(marks.get((row, column), ""), str), " ± ", "", str)
            for column, cell in enumerate(cells)
        ]
        lines.append(f"| {title} | {' | '.join(texts)} |")
    return "\n".join([*lines, "", table.caption, ""])


def to_csv(table: Table) -> str:
    """One row a model and column: method, column, mean, sd, missing cells, published; full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "column", "mean", "sd", "missing", "published"])
    for title, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            numbers = ["" if math.isnan(value) else repr(float(value)) for value in (cell.mean, cell.sd)]
            published = "" if math.isnan(cell.published) else repr(float(cell.published))
            writer.writerow([title, column, *numbers, cell.n_missing, published])
    return text.getvalue()


def latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    return text.translate(LATEX_SPECIAL)


def _text(cell: Cell, style: Callable[[str], str], before_sd: str, after_sd: str, escape: Callable[[str], str]) -> str:
    if cell.n_missing:
        text = escape(f"incomplete ({cell.n_cells - cell.n_missing} of {cell.n_cells})")
    elif math.isnan(cell.mean):
        text = "--" if escape is latex else "–"
    else:
        text = style(f"{cell.mean:.3f}")
        if not math.isnan(cell.sd):
            text += f"{before_sd}{cell.sd:.3f}{after_sd}"
    return text if math.isnan(cell.published) else f"{text} [{cell.published:.3f}]"
