"""Study: which part of the M4 paper needs which trainings. Frozen data and pure functions; nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from milbench.cohorts.cohort import Cohort
from milbench.registry import select
from milbench.trials.plan import Trial

STUDY = "m4"
DATASETS = ("tcga-gbmlgg", "tcga-brca", "tcga-crc", "tcga-ucec", "tcga-luad")
COHORT_OF_FIG4B = "tcga-brca"

METHODS = ("mean_pooling", "max_pooling", "amil", "dsmil", "transmil", "dtfd_mil", "m4")
ABLATION = ("amil", "mmoe_amil", "mmoe_mp_amil", "m4")


@dataclass(frozen=True)
class Need:
    """What one part asks for.

    Attributes
    ----------
    models : of the main run.
    experts : numbers of experts at which M4 is trained beside the main run's five.
    tasks : numbers of tasks that M4 is trained on beside the main run's, which are all.
    datasets : where the part is shown: "all" that were asked for, or "one".
    """

    models: tuple[str, ...] = ()
    experts: tuple[int, ...] = ()
    tasks: tuple[int, ...] = ()
    datasets: str = "all"


NEEDS: Mapping[str, Need] = {
    "table1": Need(),
    "table2": Need(tuple(dict.fromkeys((*METHODS, *ABLATION)))),
    "table3": Need(ABLATION),
    "fig3": Need(METHODS),
    "fig4a": Need(("amil", "m4"), experts=(1, 3, 7, 9)),
    "fig4b": Need(("amil", "m4"), tasks=(3, 5, 10), datasets="one"),
    "fig5": Need(("m4",)),
}
"""Every part by name, in the paper's order."""

MAIN = "main"


@dataclass(frozen=True)
class Variant:
    """One run folder of the study.

    Attributes
    ----------
    name : of the folder, and of the MLflow experiment: "main", "experts-3", "tasks-5".
    models, datasets : what it trains on what.
    experts : M4's number of experts; None = its default, five.
    tasks : the tasks that are learned; empty = all.
    """

    name: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    experts: int | None = None
    tasks: tuple[str, ...] = ()


def parts_of(words: Sequence[str]) -> tuple[str, ...]:
    """The parts that the words name, in the paper's order; "m4" names all.

    Raises
    ------
    UsageError : an unknown name, with the nearest known one.
    """
    chosen = select("part", words, (STUDY, *NEEDS))
    return tuple(NEEDS) if STUDY in chosen else tuple(chosen)


def datasets_of(part: str, datasets: Sequence[str]) -> tuple[str, ...]:
    """Datasets, of those asked for, that the part is shown on: for Fig. 4b BRCA or, without it, the first."""
    if NEEDS[part].datasets == "all":
        return tuple(datasets)
    return (COHORT_OF_FIG4B if COHORT_OF_FIG4B in datasets else datasets[0],)


def main_variant(parts: Sequence[str], datasets: Sequence[str]) -> Variant:
    """The run that all parts share: every model that one of them needs."""
    wanted = {model for part in parts for model in NEEDS[part].models}
    models = tuple(model for model in NEEDS["table2"].models if model in wanted)
    return Variant(MAIN, models, tuple(datasets))


def other_variants(part: str, cohorts: Mapping[str, Cohort]) -> list[Variant]:
    """What the part needs beside the main run; `cohorts` by name are all that were asked for."""
    need, datasets = NEEDS[part], datasets_of(part, tuple(cohorts))
    by_experts = [Variant(f"experts-{n}", (STUDY,), datasets, experts=n) for n in need.experts]
    by_tasks = [
        Variant(f"tasks-{k}", (STUDY,), datasets, tasks=(*tasks, *controls))
        for k in need.tasks
        for tasks, controls in {(most_mutated(cohorts[name], k), cohorts[name].control_tasks) for name in datasets}
        if tasks  # controls are learned along, as in the main run, so that nothing but k differs
    ]
    return by_experts + by_tasks


def most_mutated(cohort: Cohort, k: int) -> tuple[str, ...]:
    """The k tasks with most positive patients, controls left out, in the cohort's order.

    Empty where these are all tasks that count: that training is the main run's.
    """
    signal = [task for task in cohort.tasks if task not in cohort.control_tasks]
    if k >= len(signal):
        return ()
    top = sorted(signal, key=lambda task: -_positive_patients(cohort, task))[:k]  # stable: ties go to the first
    return tuple(task for task in signal if task in top)


def _positive_patients(cohort: Cohort, task: str) -> int:
    labels = cohort.patients_from  # every labelled patient: a slide without features must not change the choice
    return int(labels.groupby("patient_id")[task].max().eq(1).sum())


def needs_of_main(part: str, trial: Trial, datasets: Sequence[str]) -> bool:
    """Whether the part needs this trial of the main run."""
    return trial.model in NEEDS[part].models and trial.dataset in datasets_of(part, datasets)
