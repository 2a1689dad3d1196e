"""Work clock: seconds of computing that running passes have had, which is less than what a wall clock says on a busy machine.

A forecast is made of computing too. So what is left is reckoned in this clock's seconds, and becomes seconds of the wall by the
share of a core that workers have had lately.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from milbench.process.cores import usable_cores

REMEMBERED_SECONDS = 60.0
"""Of the wall, over which the share is a mean. The load of a shared machine doubles and halves within tens of seconds, so that of the
last ten says little of the next minute. A load that has come to stay counts in full after this time."""

START_UP_SECONDS = 5.0
"""At the beginning, which the mean leaves out as far as as many later ones are there: workers that start wait for the disk."""

SHORTEST_SECONDS = 0.2
"""Between two readings of what was computed: a system counts it in hundredths of a second."""

LEAST_SHARE = 0.02


class WorkClock:
    """A clock that goes as fast as the mean running pass computes.

    Parameters
    ----------
    computed : seconds of computing of all workers so far; None if nobody can tell, such as on a GPU or on other machines. Then
        this is a wall clock.
    expected_share : before anything was computed.

    Attributes
    ----------
    share : seconds of computing per second of the wall, of one running pass, lately.
    """

    def __init__(
        self, now: float, computed: Callable[[], float | None] = lambda: None, *, expected_share: float = 1.0
    ) -> None:
        self.computed, self.begun = computed, now
        self.last_computed = computed()
        self.share = 1.0 if self.last_computed is None else expected_share
        self.seconds = 0.0
        self._readings = deque([(now, 0.0)])  # of the wall and of this clock; the mean begins with the first

    def read(self, now: float, n_running: int) -> float:
        """Seconds of computing that the mean running pass has had since the clock was made.

        Parameters
        ----------
        now : seconds of a wall clock. n_running : passes that run since the last reading.
        """
        passed = now - self._readings[-1][0]
        if passed < SHORTEST_SECONDS:
            return self.seconds + passed * self.share
        computed = self.computed()
        if computed is None or self.last_computed is None:
            rate = 1.0
        elif computed < self.last_computed:  # a worker has died, or the first one has started
            rate = self.share
        else:
            rate = (computed - self.last_computed) / passed / max(n_running, 1)
        self.seconds += rate * passed
        self.last_computed = computed
        self._readings.append((now, self.seconds))
        first = max(now - REMEMBERED_SECONDS, min(self.begun, now - 2 * START_UP_SECONDS) + START_UP_SECONDS)
        while self._readings[1][0] <= first:
            self._readings.popleft()
        then, before = self._readings[0]
        self.share = max(LEAST_SHARE, (self.seconds - before) / (now - then))
        return self.seconds


def share_to_expect(n_processes: int) -> float:
    """Share of a core that each of so many new processes gets, beside all that has computed on the machine in the last minute."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    of_machine = (os.cpu_count() or 1) / (load + n_processes)
    return min(1.0, of_machine, usable_cores() / n_processes)
