"""The study's stores as the claims read them: which cohorts a claim speaks of, and means under shared draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from milbench.errors import StoreError
from milbench.report.attention_claim import Attention
from milbench.report.figures import STUDIED
from milbench.report.score_tables import ABLATION
from milbench.report.study_runs import StudyRuns
from milbench.stats.arms import Arm, Comparison, Estimate, mean_of

M4, AMIL = STUDIED, "amil"
TITLES = {
    "tcga-gbmlgg": "GBMLGG", "tcga-brca": "BRCA", "tcga-crc": "CRC", "tcga-ucec": "UCEC",
    "tcga-luad": "LUAD (not like for like)",
}  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """What the claims speak of. The defaults are the paper's; tests name cohorts whose truth they know.

    Attributes
    ----------
    cohorts : over which averages are taken.
    average_gain : of M4 over the best single-task model, on average.
    gains : by cohort, of those that gain most.
    gene_gains : by cohort and gene.
    singles : the single-task models.
    ladder : the cohort on which M4 learns more and more tasks.
    numbers : of tasks, ascending; the last but one is called best, and the last not above AMIL.
    """

    cohorts: tuple[str, ...] = tuple(TITLES)
    average_gain: float = 0.04
    gains: Mapping[str, float] = field(default_factory=lambda: {"tcga-crc": 0.06, "tcga-ucec": 0.07})
    gene_gains: Mapping[tuple[str, str], float] = field(
        default_factory=lambda: {
            ("tcga-gbmlgg", "MUC16"): 0.054,
            ("tcga-gbmlgg", "FUBP1"): 0.058,
            ("tcga-brca", "MAP3K1"): 0.04,
            ("tcga-brca", "FLG"): 0.093,
        }
    )
    singles: tuple[str, ...] = ("mean_pooling", "max_pooling", "amil", "dsmil", "transmil", "dtfd_mil")
    ladder: str = "tcga-brca"
    numbers: tuple[int, ...] = (3, 5, 10, 15)


@dataclass(frozen=True, eq=False)
class Stores:
    """The study's stores, compared cohort by cohort under shared draws; what was drawn once is kept.

    Attributes
    ----------
    draws : of every bootstrap.
    attention : what the models look at; None where nobody looked.
    """

    study: StudyRuns
    scope: Scope = field(default_factory=Scope)
    draws: int = 10_000
    attention: Attention | None = None

    _compared: dict[str, Comparison] = field(default_factory=dict, repr=False)

    def main(self, dataset: str) -> Comparison:
        """The main run's models on a cohort."""
        if dataset not in self._compared:
            models, run = dict.fromkeys((*self.scope.singles, *ABLATION)), self.study.main
            arms = [Arm(model, run, model) for model in models] if run else []
            self._compared[dataset] = Comparison(dataset, arms, self.draws)
        return self._compared[dataset]

    @cached_property
    def ladder(self) -> Comparison:
        """M4 by number of tasks, and AMIL, on the cohort where that number was varied."""
        main = self.study.main
        arms = [Arm(f"M4 with {number} tasks", run, M4) for number, run in self.study.tasks.items()]
        arms += [Arm("M4 with all tasks", main, M4), Arm(AMIL, main, AMIL)] if main else []
        return Comparison(self.scope.ladder, arms, self.draws)

    def title(self, model: str) -> str:
        """How the model is called in the stores; its name where it is not there."""
        found = (self.main(dataset).titles.get(model) for dataset in self.datasets)
        return next(filter(None, found), model)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Cohorts of the main run."""
        return tuple(self.study.main.datasets) if self.study.main else ()

    def mean(self, dataset: str, model: str) -> Estimate:
        """The model's mean over all tasks of the cohort that count.

        Raises
        ------
        StoreError : the cohort or the model is not in the stores, or not finished.
        """
        return self._found(dataset).mean(model, self.tasks(dataset))

    def tasks(self, dataset: str) -> tuple[str, ...]:
        """All tasks of the cohort that count.

        Raises
        ------
        StoreError : the cohort is not in the stores, or some of its tasks ran only.
        """
        found = self._found(dataset).signal_tasks
        if self.study.main and self.study.main.config.get("tasks"):
            raise StoreError("the main run holds some of the tasks only")
        return found

    def over(self, datasets: Sequence[str], model: str) -> Estimate:
        """The mean of the cohorts' means."""
        return mean_of([self.mean(dataset, model) for dataset in datasets])

    def on_gene(self, dataset: str, gene: str, model: str) -> Estimate:
        """The model on one task of the cohort.

        Raises
        ------
        StoreError : as `mean`.
        """
        return self._found(dataset).task(model, gene)

    def gain(self, dataset: str) -> Estimate:
        """M4's mean on the cohort above that of its best single-task model."""
        singles = [self.mean(dataset, single) for single in self.scope.singles]
        return self.mean(dataset, M4).minus(max(singles, key=lambda one: one.value))

    def _found(self, dataset: str) -> Comparison:
        comparison = self.main(dataset)
        if not comparison.titles:
            raise StoreError(f"{dataset} is not in the stores")
        return comparison


def title_of(dataset: str) -> str:
    """How the paper calls the cohort; its own name for another one."""
    return TITLES.get(dataset, dataset)
