"""Company: other processes that track the same run folder, and the lock that lets one write at a time."""

from __future__ import annotations

import os
import uuid
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from milbench.store.run import Run
from milbench.tracking.client import locked

LOCK_SECONDS = 60.0
"""How long another command may hold the lock; it writes one trial meanwhile."""


class Company:
    """Whether other processes track the same run folder: while none does, nobody's writing has to be looked for.

    Whoever tracks leaves its mark in one file: it reads there, while it holds the lock, whether another came after it.
    """

    def __init__(self, run: Run) -> None:
        self.path, self.mark = run.path / "locks" / "mlflow.last", uuid.uuid4().hex
        self.alone = self._left_mark()

    def none_came(self) -> bool:
        """Whether nobody else has tracked the run since this was made; call it with the lock held."""
        with suppress(OSError):
            if self.alone and self.path.read_text() == self.mark:
                return True
        self.alone = False
        self._left_mark()  # the others learn of this one
        return False

    def _left_mark(self) -> bool:
        with suppress(OSError):
            self.path.write_text(self.mark)
            return True
        return False


def one_at_a_time(run: Run) -> AbstractContextManager[Any]:
    """Held while looking and writing, since several commands may work on one run folder at once.

    A folder that cannot be written is nobody's work in progress and needs no lock.
    """
    folder = run.path / "locks"
    return locked(folder / "mlflow.lock", LOCK_SECONDS) if os.access(folder, os.W_OK) else nullcontext()
