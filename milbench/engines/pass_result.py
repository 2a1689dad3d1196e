"""PassResult: what a pool tells the supervisor of a pass. Imports nothing heavy: pools start before torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milbench.trials.job import Job, Status


@dataclass(frozen=True)
class PassResult:
    """How a pass, or a part of it, ended.

    Attributes
    ----------
    jobs : the jobs of the pass that this result is about.
    statuses : what became of each of them; empty if the worker died.
    worker_died : whether the process that computed them died.
    """

    jobs: tuple[Job, ...]
    statuses: Sequence[Status] = ()
    worker_died: bool = field(default=False, kw_only=True)
