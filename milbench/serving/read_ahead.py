"""ReadAhead: bags that threads read before they are asked for; as many as hide the reading, within a stated memory.

How many decides when a bag is read, and never which one comes next or which one stays. So no result depends on it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, Protocol, TypeVar

AHEAD = 2
"""Bags that are read before they are asked for at the least, each by a thread of its own: one to hide a read behind a step, one
more for a bag that is larger. One read at a time would not reach the disk's bandwidth."""

MOST_AHEAD = 16
"""And at the most. With steps of 10 ms this hides reads of 160 ms, as a network file system may take."""

THREAD = "milbench-read-ahead"

WINDOW = 8
"""Bags after which waiting and work are compared, at the least."""

NOTICED = 0.05
"""Share of time spent waiting for bags that is worth more threads."""

WORTH = 1.1
"""Ratio of rates from which more threads are kept: a disk or a core that is busy gains nothing by them."""

REST = 20
"""Windows until more threads are tried again after they were of no use."""


class Sized(Protocol):
    """What is read."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory until it is taken."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass
class Depth:
    """How many bags are read ahead, from measured times: doubled while the consumer waits and that makes it faster.

    Attributes
    ----------
    most : bags ahead at the most.
    room : bytes that bags ahead may take beside the first `AHEAD`, which are counted as part of a step.
    now : bags ahead.
    sizes : bytes of each bag, as far as it was read already.

    >>> depth = Depth(most=16, room=10**9)
    >>> for _ in range(8): depth.note(waited=0.02, worked=0.01)
    >>> depth.now
    4
    """

    most: int = AHEAD
    room: int = 0
    now: int = AHEAD
    sizes: dict[str, int] = field(default_factory=dict)
    _tried: tuple[int, float] | None = None
    _rest: int = 0
    _bags: int = 0
    _waited: float = 0.0
    _worked: float = 0.0

    def allows(self, waiting: Iterable[str], following: str) -> bool:
        """Whether `following` may be read while `waiting` are read or wait to be taken."""
        several = list(waiting)
        if len(several) < AHEAD:
            return True
        usual = max(self.sizes.values(), default=0)
        n_bytes = sorted(self.sizes.get(name, usual) for name in (*several, following))
        # before any size is known there is no telling how many bags fit
        return len(several) < self.now and bool(self.sizes) and sum(n_bytes[:-AHEAD]) <= self.room

    def note(self, *, waited: float, worked: float) -> None:
        """One more bag was taken, after so many seconds of work on the former and of waiting for this one."""
        self._bags += 1
        if self._bags <= 0:  # asked for before the last change
            return
        self._waited += waited
        self._worked += worked
        if self._bags >= max(WINDOW, 2 * self.now):
            self._compare()

    def _compare(self) -> None:
        seconds = self._waited + self._worked
        rate, share = (self._bags / seconds, self._waited / seconds) if seconds else (0.0, 0.0)
        self._bags, self._waited, self._worked = 0, 0.0, 0.0
        tried, self._tried = self._tried, None
        if tried is not None and share > NOTICED and rate < tried[1] * WORTH:  # two rates of reading: both had to wait
            self.now, self._rest = tried[0], REST
        elif self._rest:
            self._rest -= 1
        elif share > NOTICED and self.now < self.most:
            self._tried, self._bags = (self.now, rate), -self.now
            self.now = min(2 * self.now, self.most)


class ReadAhead(Generic[T]):
    """What `fetch` makes of `slide_ids`, in order: as many results before they are taken as `depth` says, a thread for each."""

    def __init__(self, fetch: Callable[[str], T], slide_ids: Iterable[str], depth: Depth) -> None:
        self.fetch, self.depth = fetch, depth
        self.left = deque(slide_ids)
        self.pool = ThreadPoolExecutor(depth.most, thread_name_prefix=THREAD)  # a thread starts where none is idle
        self.ready: deque[tuple[str, Future[T]]] = deque()
        self.taken_at: float | None = None
        self._ask()

    def take(self) -> T:
        """The next one; raises what `fetch` raised for it."""
        began = perf_counter()
        slide_id, asked = self.ready.popleft()
        fetched = asked.result()
        ended = perf_counter()
        self.depth.sizes[slide_id] = fetched.nbytes
        if self.taken_at is not None:  # nothing hides the first read
            self.depth.note(waited=ended - began, worked=began - self.taken_at)
        self._ask()
        self.taken_at = perf_counter()
        return fetched

    def close(self) -> None:
        """End the threads after the slides that they read; the garbage collector may run in one of them."""
        itself = threading.current_thread().name.startswith(THREAD)
        self.pool.shutdown(wait=not itself, cancel_futures=True)
        self.ready.clear()

    def _ask(self) -> None:
        for slide_id, fetched in self.ready:  # those that were read and not taken yet may be larger than all before
            if fetched.done() and not fetched.cancelled() and not fetched.exception():
                self.depth.sizes[slide_id] = fetched.result().nbytes
        while self.left and self.depth.allows((slide_id for slide_id, _ in self.ready), self.left[0]):
            slide_id = self.left.popleft()
            self.ready.append((slide_id, self.pool.submit(self.fetch, slide_id)))
