"""Sections of the page that need no script: tables as they are printed, and figures with their captions."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from milbench.report.html.data import Picture
from milbench.report.tables import Cell, Row, Table
from milbench.visible import visible

HEAD = 'style="padding: .35rem .75rem"'
"""The page's own style leaves room in the buttons that sort, and here there are none."""


def section(name: str, title: str, tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """HTML of a section; "" if there is nothing in it.

    Parameters
    ----------
    name : anchor of the section.
    """
    figures = ['<div class="figures">', *map(_figure, pictures), "</div>"] if pictures else []
    parts = [*map(_table, tables), *figures]
    if not parts:
        return ""
    head = f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{_text(title)}</h2>'
    return "\n".join(["", head, *parts, "</section>"])


def link(name: str, title: str, content: str) -> str:
    """Link to a section in the page's list of sections; "" if the section is empty."""
    return f'\n<a href="#{name}">{_text(title)}</a>' if content else ""


def _table(table: Table) -> str:
    kinds = ["", *["number"] * len(table.columns)]
    heads = "".join(
        f'<th scope="col" class="{kind}" {HEAD}>{_text(text)}</th>'
        for kind, text in zip(kinds, (table.head, *table.columns), strict=True)
    )
    rows = "\n".join(map(_row, table.rows))
    return (
        f'<div class="block"><div class="scroll" role="region" tabindex="0" aria-label="{_text(table.name)}"><table>'
        f'<caption><span class="caption-text">{_text(table.caption)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div></div>"
    )


def _row(row: Row) -> str:
    below = f'<br><span class="small">{_text(row.below)}</span>' if row.below else ""
    return f'<tr><th scope="row">{_text(row.title)}{below}</th>{"".join(map(_cell, row.cells))}</tr>'


def _cell(cell: Cell) -> str:
    below = "".join(f'<br><span class="small">{_text(line)}</span>' for line in cell.below.splitlines())
    kind = f"number {cell.style}".strip()
    return f'<td class="{kind}"><span>{_text(cell.text)}</span>{below}</td>'


def _figure(picture: Picture) -> str:
    caption = _text(picture.caption)
    source = f"data:image/png;base64,{b64encode(picture.png).decode()}"
    return f'<figure><img src="{source}" alt="{caption}" loading="lazy"><figcaption>{caption}</figcaption></figure>'


def _text(text: str) -> str:
    """`text` as HTML shows it, with nothing hidden."""
    return escape(visible(text))
