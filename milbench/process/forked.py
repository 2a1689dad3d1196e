"""Forked: tasks shared out among copies of this process, which need no second start and no second import.

::

    this process   task 0            task 2   task 3    waits   does what is not done, in order
    a copy of it       task 1                      task 4   ends

Tasks write files; a copy tells no more than which tasks it has done. Each process takes the next task when it is free.
Copies may begin while this process still has something else to do (`begun`).
A task that fails in a copy is done again here, where its error is raised as if there were no copies. So is one of a copy
that was killed, and every task where no copy can be made: files and messages are the same.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

NUMBER_BYTES = 4
MOST_TASKS = 1024
"""Numbers of tasks that any pipe holds at once (4 KiB)."""


class Task(NamedTuple):
    """Something to do that may be done twice, and its name in an error."""

    name: str
    do: Callable[[], object]


class Copy(NamedTuple):
    """A process that began as a copy of this one, and the pipe through which it tells what is done."""

    pid: int
    done: int


def share_out(tasks: Sequence[Task], n_processes: int) -> None:
    """Do all tasks, in up to `n_processes` processes; errors are those of `begun`."""
    with begun(tasks, min(n_processes, len(tasks))):
        pass


@contextmanager
def begun(tasks: Sequence[Task], n_processes: int) -> Iterator[None]:
    """Inside, copies of this process do the tasks; when it is left, this process takes its part, and all are done.

    `n_processes` are this one and its copies. Copies are made on Linux, by a process with one thread of Python: elsewhere a
    lock that another thread holds would be held for ever. None are made where the system sees children off by itself (an
    ignored SIGCHLD, which some services leave to what they start): nobody could say which process has a copy's number by
    then. Without copies all tasks are done here, when the block is left. If the block raises, tasks that no process has
    begun are not done.

    Raises
    ------
    Exception : what the first failed task raised, with its name as a note. Later tasks may be done or not.
    """
    n_copies = min(n_processes - 1, len(tasks)) if _may_copy() and len(tasks) <= MOST_TASKS else 0
    done: set[int] = set()
    with _copies(tasks, n_copies) as (queue, copies):
        yield
        if copies:
            done.update(_do(tasks, queue))
        for copy in copies:
            done.update(_numbers_in(copy.done))  # ends when the copy does
    for number, task in enumerate(tasks):
        if number not in done:
            try:
                task.do()
            except Exception as error:
                error.add_note(f"while making {task.name}")
                raise


def _may_copy() -> bool:
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN
    )


@contextmanager
def _copies(tasks: Sequence[Task], n: int) -> Iterator[tuple[int, list[Copy]]]:
    """The queue of tasks, and up to `n` copies that take from it; on an error nobody begins another task."""
    copies: list[Copy] = []
    if n < 1:
        yield -1, copies
        return
    try:
        queue = _queue_of(len(tasks))
    except OSError:  # no more files may be open
        yield -1, copies
        return
    try:
        with suppress(OSError):  # no more processes are allowed: fewer do the same
            for _ in range(n):
                copies.append(_copied(tasks, queue))
        yield queue, copies
    finally:
        os.close(queue)
        for copy in copies:
            _end(copy)


def _do(tasks: Sequence[Task], queue: int) -> Iterator[int]:
    """Do tasks from the queue and yield their numbers, up to the first that fails."""
    for number in _numbers_in(queue):
        try:
            tasks[number].do()
        except Exception:  # noqa: BLE001 - raised when the task is done again
            for _ in _numbers_in(queue):  # empties it
                pass
            return
        yield number


def _queue_of(n: int) -> int:
    """A pipe to read the numbers 0 .. n - 1 from, by whoever is free."""
    read, write = os.pipe()
    os.write(write, b"".join(map(_as_bytes, range(n))))
    os.close(write)
    return read


def _as_bytes(number: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES, "little")


def _numbers_in(pipe: int) -> Iterator[int]:
    while number := os.read(pipe, NUMBER_BYTES):
        yield int.from_bytes(number, "little")


def _copied(tasks: Sequence[Task], queue: int) -> Copy:
    """A copy of this process that takes tasks from the queue, and ends.

    Raises
    ------
    OSError : the system allows no more processes.
    """
    read, write = os.pipe()
    try:
        with warnings.catch_warnings():
            # of threads that Python did not start: BLAS and Arrow make theirs anew in a copy
            warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
            pid = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        raise
    if pid == 0:
        _be_a_copy(tasks, queue, write)
    os.close(write)
    return Copy(pid, read)


def _be_a_copy(tasks: Sequence[Task], queue: int, done: int) -> None:
    """Take tasks, tell those that are done and end, without what Python does at the end of the process that was copied."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the other process ends this one
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.freeze()  # looking through what the other process made would copy its memory
        parent = os.getppid()
        for number in _do(tasks, queue):
            os.write(done, _as_bytes(number))
            if os.getppid() != parent:  # it was killed, and nobody waits for the rest
                break
    finally:
        os._exit(0)


def _end(copy: Copy) -> None:
    """End the copy and see it off; one that has ended by itself waits for that."""
    os.close(copy.done)
    os.kill(copy.pid, signal.SIGKILL)
    os.waitpid(copy.pid, 0)
