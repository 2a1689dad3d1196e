"""Figures ahead: figures that need no statistics, drawn by copies of this process while it computes them.

::

    this process   statistics ── texts ── other figures ── draws what no copy has begun ── writes all of them
    a copy of it   ROC ── training ── box plot ── radar ── ends
                     └─ files of each figure, in memory that both see

A report that is refused, as for an incomplete grid, must not have changed a file of the one before it. So a figure lies in
memory until the others are drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from milbench.endpoints.endpoint import Kind
from milbench.process.cores import usable_cores
from milbench.process.forked import Task, begun
from milbench.process.told import Told, rooms_to_tell
from milbench.report import figures
from milbench.report.contents import Outline
from milbench.report.early_drawings import Early, early_drawings
from milbench.store.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH_BYTES = 8


class Picture:
    """A figure that this process or a copy of it draws, into memory."""

    def __init__(self, make: Callable[[], Figure], told: Told) -> None:
        self._make, self._told, self._home = make, told, os.getpid()
        self._files: figures.Files | None = None

    def do(self) -> None:
        """Draw it; in a copy, tell the process at home its files."""
        with figures.plain_names():
            files = figures.formats(self._make())
        if os.getpid() == self._home:
            self._files = files
        else:
            self._told.write([len(files.png).to_bytes(LENGTH_BYTES, "little"), files.png, files.pdf])

    def files(self) -> figures.Files:
        """What was drawn, by whichever process."""
        if self._files is not None:
            return self._files
        length = int.from_bytes(self._told.read(0, LENGTH_BYTES), "little")
        return figures.Files(self._told.read(LENGTH_BYTES, length), self._told.read(LENGTH_BYTES + length))


class Ahead(NamedTuple):
    """Figures of a report that are begun before its statistics.

    Attributes
    ----------
    early : by kind and cohort everything that `early_drawings` gives.
    pictures : by stem those of them that are drawn into memory; none where copies could not tell what they drew.
    """

    early: Mapping[tuple[Kind, str], Early]
    pictures: Mapping[str, Picture]

    @property
    def stems(self) -> frozenset[str]:
        """Of the figures that nobody else has to draw."""
        return frozenset(self.pictures)


NOTHING_AHEAD = Ahead({}, {})


@contextmanager
def drawn_ahead(outlines: Sequence[Outline], out: Path) -> Iterator[Ahead]:
    """Inside, copies of this process draw; when it is left without an error, all figures in `pictures` lie in `out`.

    With one core none are drawn ahead.

    Raises
    ------
    StoreError : `out` cannot be written.
    """
    with figures.plain_names():
        early = {(one.kind, name): early_drawings(one, name) for one in outlines for name in one.dataset_titles}
    # those that take longest first, so that no process is left with one at the end
    drawings = [drawing for each in early.values() for drawing in (*each.curves, *each.scores)]
    with rooms_to_tell(len(drawings) if usable_cores() > 1 else 0) as rooms:
        pictures = {stem: Picture(make, room) for (stem, make, _), room in zip(drawings, rooms, strict=False)}
        with begun([Task(f"figure {stem}", picture.do) for stem, picture in pictures.items()], usable_cores()):
            yield Ahead(early, pictures)
        with writing(out):
            for stem, picture in pictures.items():
                figures.write(picture.files(), out / stem)
