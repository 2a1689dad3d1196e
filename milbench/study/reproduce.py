"""Reproduce: the study's parts -> run folders that share their trials -> what ran. The report is written elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from milbench.datasets import all_datasets
from milbench.registry import select
from milbench.report.study_runs import StudyRuns
from milbench.runs.benchmark import Outcome, run_benchmark
from milbench.runs.config import make_config
from milbench.runs.preparation import RUNS, Benchmark, prepare
from milbench.runs.progress import Progress
from milbench.store.run import Run
from milbench.study.parts import DATASETS, MAIN, STUDY, Variant, main_variant, needs_of_main, other_variants
from milbench.trials.plan import Trial


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes
    ----------
    parts : of `milbench.study.parts.NEEDS`.
    datasets : names or patterns; empty = the study's five cohorts.
    epochs, precision : None and "float32" = the recipe's; others have run folders of their own, since tables compare
        like with like.
    engine, assignments : where it runs, as flags of `run` and as "engine.slurm.jobs=16".
    """

    parts: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    data_root: str = ""
    epochs: int | None = None
    precision: str = "float32"
    engine: Mapping[str, Any] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    tracking: bool = True
    allow_missing: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the run folders."""
        return RUNS / STUDY / self._differences

    @property
    def report_folder(self) -> Path:
        """Folder of the report unless another one is asked for."""
        return Path("reports") / "-".join(filter(None, (STUDY, self._differences)))

    @property
    def _differences(self) -> str:
        """Difference from the study's recipe, as part of a folder's name."""
        epochs = f"epochs-{self.epochs}" if self.epochs else ""
        return "-".join(filter(None, (epochs, self.precision if self.precision != "float32" else "")))


@dataclass(frozen=True)
class Study:
    """Decisions made before anything trains.

    Attributes
    ----------
    variants : benchmark by name; the main run's first, its trials only those that some part needs.
    trials : (variant, trial) pairs by part.
    """

    request: Request
    variants: Mapping[str, Benchmark]
    trials: Mapping[str, Sequence[tuple[str, Trial]]]

    @property
    def n_trainings(self) -> int:
        """Distinct trainings of all parts together."""
        return len({trial.key for pairs in self.trials.values() for _, trial in pairs})

    def done(self, pairs: Sequence[tuple[str, Trial]]) -> int:
        """How many of the trials are finished."""
        return sum(self.variants[name].run.trial(trial.id) is not None for name, trial in pairs)


def plan_study(request: Request) -> Study:
    """Variants and trials of `request`; nothing is written.

    Raises
    ------
    MilbenchError : unknown names, unusable data, a split that leaks.
    """
    datasets = tuple(select("dataset", request.datasets or DATASETS, all_datasets()))
    main = prepare(_config(main_variant(request.parts, datasets), request))
    cohorts = {entry.cohort.name: entry.cohort for entry in main.entries}
    others = {part: other_variants(part, cohorts) for part in request.parts}
    made = {v.name: prepare(_config(v, request)) for variants in others.values() for v in variants}
    trials = {
        part: [
            *((MAIN, trial) for trial in main.trials if needs_of_main(part, trial, datasets)),
            *((variant.name, trial) for variant in others[part] for trial in made[variant.name].trials),
        ]
        for part in request.parts
    }
    needed = {trial.key for pairs in trials.values() for name, trial in pairs if name == MAIN}
    main = replace(main, trials=[trial for trial in main.trials if trial.key in needed])
    return Study(request, {MAIN: main, **made}, trials)


def _config(variant: Variant, request: Request) -> Any:
    flags: dict[str, Any] = {
        # Table 1 alone trains no model, and a configuration without one is refused
        "models": list(variant.models) or [STUDY],
        "datasets": list(variant.datasets),
        "data_root": request.data_root,
        "tasks": list(variant.tasks),
        "allow_missing": request.allow_missing,
        "run": str(request.folder / variant.name),
        "trainer": {"epochs": request.epochs} if request.epochs else {},
        "model": {STUDY: {"experts": variant.experts}} if variant.experts else {},
        "precision": request.precision,
        "engine": dict(request.engine),
        "tracking": {"enabled": request.tracking},
    }
    return make_config(None, list(request.assignments), flags)


def run_study(study: Study, progress: Callable[[str], Progress]) -> list[Outcome]:
    """Outcomes variant by variant, up to the first that was interrupted or refused.

    Parameters
    ----------
    progress : makes the display of the variant of that name.
    """
    outcomes: list[Outcome] = []
    for name, benchmark in study.variants.items():
        outcomes.append(run_benchmark(benchmark, progress(name)))
        if outcomes[-1].refused or outcomes[-1].interrupted:
            break
    return outcomes


def study_runs(study: Study) -> StudyRuns:
    """The study's runs as the report takes them."""
    return StudyRuns(study.variants[MAIN].run, _numbered(study, "experts"), _numbered(study, "tasks"))


def _numbered(study: Study, kind: str) -> dict[int, Run]:
    names = [name.rpartition("-") for name in study.variants]
    return {int(number): study.variants[f"{kind}-{number}"].run for what, _, number in names if what == kind}
