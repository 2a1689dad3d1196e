"""The stores of one study, as its report and its claims take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from milbench.report.figures import STUDIED
from milbench.store.run import Run

PAPERS_EXPERTS = 5
"""Of M4 in the paper's tables."""


@dataclass(frozen=True)
class StudyRuns:
    """The stores of one study.

    Attributes
    ----------
    main : all models on all tasks, M4 with its five experts.
    experts : M4 alone, by number of experts.
    tasks : M4 alone, by number of tasks.
    """

    main: Run | None
    experts: Mapping[int, Run] = field(default_factory=dict)
    tasks: Mapping[int, Run] = field(default_factory=dict)

    @property
    def main_experts(self) -> int:
        """M4's number of experts in the main run, as its trials say."""
        infos = [trial.info for trial in (self.main.trials() if self.main else []) if trial.info["model"] == STUDIED]
        return int(infos[0]["hyperparameters"].get("experts", PAPERS_EXPERTS)) if infos else PAPERS_EXPERTS

    def snapshot(self) -> StudyRuns:
        """The stores as they are now: the checksums of their trials are verified once, not at every look."""
        return StudyRuns(
            self.main.snapshot() if self.main else None,
            {number: run.snapshot() for number, run in self.experts.items()},
            {number: run.snapshot() for number, run in self.tasks.items()},
        )
