"""Board page: the leaderboard as HTML that needs no network and no script, in light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

import pandas as pd

from milbench.bundles.comparison import BETWEEN, Compared
from milbench.bundles.verify import Verdict
from milbench.report.html.page import asset
from milbench.report.html.sections import section
from milbench.report.score_tables import interval, number, signed
from milbench.report.tables import Cell, Row, Table
from milbench.visible import visible

VERIFIED, NOT_VERIFIED = "✓ verified", "not verified"
SEAL_DIGITS = 16
SHOWN = 3
"""Differences of a bundle that the page names; `milbench verify` names all."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Group:
    """Bundles that can be compared on a cohort.

    Attributes
    ----------
    members : their labels.
    compared : one entry per kind of task.
    reasons : why they can't be compared with bundles of an earlier group.
    """

    dataset: str
    members: tuple[str, ...]
    compared: tuple[Compared, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """All that the page shows.

    Attributes
    ----------
    verdicts : by label, of bundles that could be read.
    broken : by label, why a bundle could not.
    """

    verdicts: Mapping[str, Verdict]
    broken: Mapping[str, str]
    groups: Sequence[Group]


def render(board: Board) -> str:
    """The page's text; equal bundles give equal text."""
    sections = [_section(number, group, board) for number, group in enumerate(board.groups, start=1)]
    sections.append(section("bundles", "Bundles", [_bundles(board)], ()))
    if board.broken:
        rows = "".join(f"<li><b>{_text(label)}</b>: {_text(why)}</li>" for label, why in sorted(board.broken.items()))
        sections.append(f'<section id="unreadable"><h2>Could not be read</h2><ul>{rows}</ul></section>')
    n_verified = sum(verdict.is_equal for verdict in board.verdicts.values())
    links = "".join(
        f'<a href="#group-{number}">{_text(_heading(number, group, board.groups))}</a>'
        for number, group in enumerate(board.groups, start=1)
    )
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">', "<title>Leaderboard</title>",
        '<link rel="icon" href="data:,">', f"<style>{asset('page.css')}</style>", "</head>", "<body>",
        '<a class="skip" href="#main">Skip to the results</a>',
        f'<header class="top"><h1>Leaderboard</h1><nav aria-label="Sections">{links}<a href="#bundles">Bundles</a></nav></header>',
        '<main id="main" tabindex="-1">',
        f"<p>{len(board.verdicts)} bundle(s), {n_verified} verified: every number of their reports was computed again from their "
        "predictions, and is equal. A bundle without the mark differs in what the list below says. Numbers of all tables on "
        "this page are computed from the predictions in the bundles.</p>",
        *sections, "</main>", "</body>", "</html>", "",
    ])  # fmt: skip


def _heading(number: int, group: Group, groups: Sequence[Group]) -> str:
    several = sum(each.dataset == group.dataset for each in groups) > 1
    return f"{group.dataset}, question {number}" if several else group.dataset


def _section(number: int, group: Group, board: Board) -> str:
    tables = [table for one in group.compared for table in (_marked(one, board), *_leads(one))]
    title = _heading(number, group, board.groups)
    reasons = "".join(f'<p class="note">{_text(reason)}</p>' for reason in group.reasons)
    body = section(f"group-{number}", title, tables, ())
    if not body:
        return f'<section id="group-{number}"><h2>{_text(title)}</h2>{reasons}</section>'
    return body.replace("</h2>", f"</h2>{reasons}", 1)


def _marked(one: Compared, board: Board) -> Table:
    """The comparison with a mark in front of every row."""
    labels = dict(zip(one.analysis.cohorts["title"], one.analysis.cohorts["model"], strict=True))
    rows = [replace(row, cells=(Cell(_mark(str(labels[row.title]), board)), *row.cells)) for row in one.table.rows]
    return replace(one.table, columns=("Verified", *one.table.columns), rows=tuple(rows))


def _mark(model: str, board: Board) -> str:
    label = max((each for each in board.verdicts if model.startswith(f"{each}{BETWEEN}")), key=len)
    return VERIFIED if board.verdicts[label].is_equal else NOT_VERIFIED


def _leads(one: Compared) -> list[Table]:
    """Lead of the first model over each other one, with its interval and corrected p."""
    ranking = one.analysis.cohorts.dropna(subset=["score"]).sort_values("score", ascending=False, kind="stable")
    if len(ranking) < 2:
        return []
    leader = ranking.iloc[0]
    pairs = [_turned(one.analysis.pairs, str(leader["model"]), str(model)) for model in ranking["model"].iloc[1:]]
    rows = [
        Row(str(title), (Cell(signed(delta), interval(low, high, with_sign=True)), Cell(number(p))))
        for title, (delta, low, high, p) in zip(ranking["title"].iloc[1:], pairs, strict=True)
    ]
    caption = (
        f"Lead of {leader['title']} over the others in mean test {one.analysis.metric.title}: same draws for all, 95 % "
        "interval, p after Holm's correction over all pairs."
    )
    return [Table("leads", caption, "Model", ("Lead", "p (Holm)"), tuple(rows), pd.DataFrame(), kind=one.kind)]


def _turned(pairs: pd.DataFrame, first: str, second: str) -> tuple[float, float, float, float]:
    """Difference first − second, its interval and its corrected p."""
    for row in pairs.itertuples():
        if (row.model_a, row.model_b) == (first, second):
            return row.delta, row.low, row.high, row.p_holm
        if (row.model_a, row.model_b) == (second, first):
            return -row.delta, -row.high, -row.low, row.p_holm
    return (float("nan"),) * 4


def _bundles(board: Board) -> Table:
    rows = []
    for label, verdict in board.verdicts.items():
        header = verdict.header
        told = (header.title, ", ".join(header.authors) or "–", header.licence) if header else ("–",) * 3
        cells = (
            *map(Cell, told),
            Cell(verdict.seal[:SEAL_DIGITS]),
            Cell(VERIFIED if verdict.is_equal else NOT_VERIFIED, _said(verdict)),
        )
        rows.append(Row(label, cells))
    caption = "Each bundle with its seal: the first digits of the SHA-256 of its checksums, which a paper can print."
    columns = ("Title", "Authors", "Licence of the data", "Seal", "Verified")
    return Table("bundles", caption, "Bundle", columns, tuple(rows), pd.DataFrame())


def _said(verdict: Verdict) -> str:
    if verdict.is_equal:
        return f"{verdict.n_numbers:,} numbers equal"
    rest = len(verdict.differences) - SHOWN
    lines = [each.text for each in verdict.differences[:SHOWN]] + ([f"and {rest:,} more"] if rest > 0 else [])
    return "\n".join(lines)


def _text(text: str) -> str:
    return escape(visible(text))
