"""Reader: a process that opens slides, plans them and fills slots with tiles; it imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import MilbenchError, StoreError, UsageError
from milbench.extraction.grid import Corners
from milbench.extraction.plan import Plan, SlideFile, plan_of
from milbench.extraction.resolution import Reading
from milbench.extraction.settings import Settings
from milbench.extraction.slots import Shape, slots_of
from milbench.extraction.tiles import read_tiles

if TYPE_CHECKING:
    from milbench.slides import Slide


MOST_OPEN = 2
"""Slides that a reader keeps open: the one that is read, and the one that was planned meanwhile."""


class PlanTask(NamedTuple):
    """Find the patches of a slide."""

    slide: SlideFile


class TilesTask(NamedTuple):
    """Read patches of a slide into a slot.

    Attributes
    ----------
    first : number of the first of them on the slide.
    """

    slide: SlideFile
    first: int
    corners: Corners
    reading: Reading
    slot: int


Task = PlanTask | TilesTask


class Trouble(NamedTuple):
    """Why a task could not be done.

    Attributes
    ----------
    stops_all : whether it would be the same for every slide: a library is missing, or the disk is full.
    """

    text: str
    stops_all: bool = False


Answer = Plan | Trouble | None
"""What a reader says of a task; None = the slot is filled."""


class Worker:
    """What one reader keeps between two tasks: slides that it read last stay open.

    Parameters
    ----------
    sheets : folder of the contact sheets.
    """

    def __init__(self, settings: Settings, sheets: Path, slots: NDArray[np.uint8]) -> None:
        self.settings, self.sheets, self.slots = settings, sheets, slots
        self._open: dict[Path, Slide] = {}

    def do(self, task: Task) -> Answer:
        """Answer to one task; no error of a slide leaves it."""
        try:
            if isinstance(task, PlanTask):
                return self._plan(task)
            self._fill(task)
            return None
        except (UsageError, StoreError) as error:
            return Trouble(str(error), stops_all=True)
        except MilbenchError as error:
            return Trouble(str(error))
        except Exception as error:  # noqa: BLE001 - libraries meet damaged files in many ways, and other slides go on
            return Trouble(f"{type(error).__name__}: {error}")

    def _plan(self, task: PlanTask) -> Plan:
        sheet = self.sheets / f"{task.slide.slide_id}.png"
        return plan_of(self._opened(task.slide.path), task.slide, self.settings, sheet)

    def _fill(self, task: TilesTask) -> None:
        read_tiles(
            self._opened(task.slide.path), task.corners, task.reading, self.slots[task.slot][: len(task.corners)]
        )

    def _opened(self, path: Path) -> Slide:
        from milbench.slides import open_slide

        if path not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = open_slide(path)
        return self._open[path]

    def close(self) -> None:
        """Let go of the slides that are open."""
        while self._open:
            self._open.popitem()[1].close()


def serve(
    connection: Connection, settings: Settings, sheets: Path, slots: str, count: int, shape: Shape,
    worker_of: Callable[[Settings, Path, NDArray[np.uint8]], Worker] = Worker,
) -> None:  # fmt: skip
    """Do tasks that come through `connection` until it is closed: the other end's process has ended, also if it was killed."""
    worker = worker_of(settings, sheets, slots_of(slots, count, shape))
    try:
        connection.send(None)  # all is imported
        while True:
            connection.send(worker.do(connection.recv()))
    except (EOFError, ConnectionError):
        worker.close()
