"""A progress bar of bytes in a terminal, silence elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from milbench.visible import visible_line


@contextmanager
def download_bar(name: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the bytes that have come."""
    console = Console()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(visible_line(name), total=total_bytes)
        yield lambda more: progress.update(task, advance=more)
