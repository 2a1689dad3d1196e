"""Terminal: what every command prints with: lines, warnings, names with values, a bar over slides."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from milbench.visible import visible, without_passwords

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.intake.inspection import Watch
    from milbench.labels.finding import Finding

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def new_console(width: int | None = None) -> Console:
    """A console that prints names as they are written; without a `width`, as wide as the terminal."""
    from milbench.commands.console import PlainConsole

    return PlainConsole(width)


def say(text: str) -> None:
    """Print a line without rich, which would take time to import."""
    print(visible(without_passwords(text)))  # noqa: T201


def warn(text: str) -> None:
    """Print a warning on standard error."""
    complain(f"warning: {text}")


def complain(text: str) -> None:
    """Print what is wrong on standard error."""
    print(visible(f"milbench: {without_passwords(text)}"), file=sys.stderr)  # noqa: T201


def line(console: Console, text: str) -> None:
    """Print a line as it is: no markup, and not broken to the terminal's width."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def grid(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    names: Sequence[str],
    right: Sequence[str] = (),
) -> None:
    """Print a table that fits a narrow terminal: nothing is cut, and what is too long goes on in the next line.

    Parameters
    ----------
    names : columns that make no room for others, if they fit into half of the terminal together.
    right : columns of numbers.
    """
    from rich.table import Table

    table = Table()
    longest = sum(max((len(row[columns.index(name)]) for row in rows), default=0) for name in names)
    whole = names if longest <= console.width // 2 else ()
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in whole
        )
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def finding(console: Console, found: Finding, indent: str = "") -> None:
    """Print one finding, its severity in colour."""
    console.print(f"{indent}{found.severity}: ", style=COLOURS[found.severity], end="", markup=False)
    console.print(found.text, markup=False, highlight=False, soft_wrap=True)


def facts(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, markup=False)


def listed(console: Console, texts: Iterable[str]) -> None:
    """Print texts as a list, each with a dash and broken at words."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for text in texts:
        table.add_row("  -", text)
    console.print(table, markup=False)


def plain_grid(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without lines; nothing is cut, and what is too long in the last column goes on in the next line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    longest = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    leaves_room = sum(longest[:-1]) <= 2 * console.width // 3
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=leaves_room and column != columns[-1])
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def watcher(console: Console) -> Watch:
    """A progress bar over slides on a terminal, with bytes per second where sizes are given; silent elsewhere."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    def watch(slides: Iterable[str], what: str, n_bytes: Callable[[str], int] | None = None, /) -> Iterable[str]:
        in_bytes = (DownloadColumn(), TransferSpeedColumn())
        columns = (
            TextColumn(what),
            BarColumn(),
            *(in_bytes if n_bytes else [MofNCompleteColumn()]),
            TimeRemainingColumn(),
        )
        sizes = [(slide, n_bytes(slide) if n_bytes else 1) for slide in slides]
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what, total=sum(size for _, size in sizes))
            for slide, size in sizes:
                yield slide
                bar.advance(task, size)

    return watch
