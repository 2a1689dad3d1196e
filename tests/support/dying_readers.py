"""Readers that die; their processes import no torch."""

from __future__ import annotations

import os
import signal
from typing import Any

from milbench.extraction.reader import Answer, Task, TilesTask, Worker


class KilledWorker(Worker):
    """A reader that is killed, as by the system when memory runs out, at the second batch of slide `b`."""

    def do(self, task: Task) -> Answer:
        if isinstance(task, TilesTask) and task.slide.slide_id == "b" and task.first > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().do(task)


class StillbornWorker(Worker):
    """A reader that ends before it has begun."""

    def __init__(self, *_: Any) -> None:
        os._exit(7)
