"""Readers: processes that read slides ahead of the encoder, and what happens if one of them dies.

::

    this process   deals tasks ──> reader 1: plan slide B
                                   reader 2: fill slot 3 with patches 64 to 127 of slide A
                   <── answers
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

from milbench.errors import MilbenchError
from milbench.extraction.reader import Answer, Task, Trouble, Worker, serve
from milbench.extraction.settings import Settings
from milbench.extraction.slots import Slots
from milbench.process.signals import deaf_children

TASKS_AHEAD = 2
"""Tasks that a reader holds: one that it does, and one that it begins while its answer is on the way."""


class Reading(Protocol):
    """What deals with tasks, here or in other processes."""

    def has_room(self) -> bool:
        """Whether one more task may be given."""

    def give(self, task: Task) -> None:
        """Have a task done."""

    def next_answer(self) -> tuple[Task, Answer]:
        """A task that was given, and what came of it; waits for one."""

    def close(self) -> None:
        """End it, whatever is still to be done."""


class ReadingHere:
    """Reads in this process, one task after the other."""

    def __init__(self, settings: Settings, sheets: Path, slots: Slots) -> None:
        self._worker = Worker(settings, sheets, slots.arrays)
        self._tasks: deque[Task] = deque()

    def has_room(self) -> bool:
        return not self._tasks

    def give(self, task: Task) -> None:
        self._tasks.append(task)

    def next_answer(self) -> tuple[Task, Answer]:
        task = self._tasks.popleft()
        return task, self._worker.do(task)

    def close(self) -> None:
        self._worker.close()


@dataclass
class Reader:
    """One reading process.

    Attributes
    ----------
    tasks : given to it and not answered, in their order: it does the first.
    is_ready : whether it has imported all that it needs.
    """

    process: SpawnProcess
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)
    is_ready: bool = False


class Readers:
    """Reads in processes of their own.

    They never see Ctrl-C, and end when this process has ended, however it did.

    Parameters
    ----------
    worker_of : what each process makes its worker with.

    Raises
    ------
    MilbenchError : the system starts no processes.
    """

    def __init__(
        self, count: int, settings: Settings, sheets: Path, slots: Slots, worker_of: Callable[..., Worker] = Worker
    ) -> None:
        self._arguments = (settings, sheets, slots.path, slots.count, slots.shape, worker_of)
        self._readers: list[Reader] = []
        try:
            for _ in range(count):
                self._readers.append(self._started())
        except BaseException:
            self.close()
            raise

    def has_room(self) -> bool:
        return any(len(reader.tasks) < TASKS_AHEAD for reader in self._able())

    def give(self, task: Task) -> None:
        reader = min(self._able(), key=lambda each: len(each.tasks))
        reader.tasks.append(task)
        with suppress(ConnectionError):  # it has died: `next_answer` meets the end of its pipe
            reader.connection.send(task)

    def _able(self) -> list[Reader]:
        """Readers that are ready; all if none is: what one is given while it starts would wait for seconds."""
        return [reader for reader in self._readers if reader.is_ready] or self._readers

    def next_answer(self) -> tuple[Task, Answer]:
        while True:
            answering = wait([reader.connection for reader in self._readers])
            reader = next(each for each in self._readers if each.connection in answering)
            try:
                answer = reader.connection.recv()
            except (EOFError, ConnectionError):
                return self._buried(reader)
            if reader.is_ready:
                self._readers.sort(
                    key=lambda each: each is reader
                )  # to the end: else one that is quick keeps others waiting
                return reader.tasks.popleft(), answer
            reader.is_ready = True

    def _buried(self, reader: Reader) -> tuple[Task, Answer]:
        """The task that killed a reader; another reader takes its place and its other tasks."""
        reader.process.join()
        code = reader.process.exitcode or 0
        if not reader.is_ready or not reader.tasks:
            raise MilbenchError(
                f"a process that reads slides {_ended(code)} before it began. Give --workers 0 to read in this process."
            )
        self._readers.remove(reader)
        reader.connection.close()
        self._readers.append(self._started())
        for task in list(reader.tasks)[1:]:
            self.give(task)
        return reader.tasks[0], Trouble(f"the process that read it {_ended(code)}")

    def _started(self) -> Reader:
        context = get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=True, name="milbench reader")
        try:
            with deaf_children():
                process.start()
        except OSError as error:
            raise MilbenchError(
                f"no process that reads slides can be started ({error.strerror or error}). Use fewer --workers, or 0 to read "
                "in this process."
            ) from error
        finally:
            theirs.close()
        return Reader(process, mine)

    def close(self) -> None:
        for reader in self._readers:
            reader.process.kill()
        for reader in self._readers:
            reader.process.join()
            reader.connection.close()
        self._readers = []


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, probably because memory ran out (use fewer --workers)"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}), probably because the file is damaged"
    return f"ended with exit code {code}"
