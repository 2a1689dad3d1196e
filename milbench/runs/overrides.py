"""Overrides: which arguments of models a cohort sets, and which models keep their own."""

from __future__ import annotations

from milbench.cohorts.cohort import Cohort
from milbench.runs.preparation import Benchmark
from milbench.trials.arguments import constructor_arguments


def overridden_arguments(benchmark: Benchmark, cohort: Cohort) -> list[str]:
    """Sentences on each argument that the cohort sets: of which models it changes the default, and which keep theirs."""
    used = {trial.model: trial.hyperparameters for trial in benchmark.trials if trial.dataset == cohort.name}
    changed: dict[str, list[str]] = {}
    kept: dict[str, list[str]] = {}
    for name, arguments in used.items():
        defaults = constructor_arguments(benchmark.models[name])
        for key in cohort.model_defaults.keys() & defaults.keys():
            if arguments[key] != defaults[key]:
                changed.setdefault(f"{key} {defaults[key]} -> {arguments[key]}", []).append(name)
            elif arguments[key] != cohort.model_defaults[key]:
                kept.setdefault(f"{key} {arguments[key]}", []).append(name)
    return [
        *(f"settings for its size: {what} of {', '.join(names)}" for what, names in sorted(changed.items())),
        *(
            f"{', '.join(names)} keep{'s' * (len(names) == 1)} {what}: a cohort sets arguments of baselines only "
            "(docs/models.md)"
            for what, names in sorted(kept.items())
        ),
    ]
