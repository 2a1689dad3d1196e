"""Run: the tests of one model, on several processes if asked, and what its contract says beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import nan
from pathlib import Path

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from milbench.endpoints.outputs import Outputs
from milbench.engines.cost import multiply_adds
from milbench.errors import UsageError
from milbench.models import MILModel
from milbench.probes.catalogue import PROBES
from milbench.probes.made_bags import WIDTH
from milbench.probes.training import reduced_arguments, score_of
from milbench.probes.verdict import Score, Verdict, verdict_of
from milbench.registry import is_baseline, load_models
from milbench.runs.tryout import CASE_SECONDS, binary_case, findings_by_model
from milbench.training.contract import Finding, findings_of

KILLED = "A worker was killed here or before, perhaps because memory ran out. Use fewer --workers."

Watch = Callable[[Iterable[Score], int], Iterable[Score]]
"""Called with the scores as they come, and their number; passes them on."""


MOST_WORK = 300e6
"""Multiply-adds of a forward on the test's largest bag beyond which a test is left out: it would take hours, and not minutes."""


def left_out_of(model: type[MILModel], tests: Sequence[str]) -> dict[str, str]:
    """Tests that the model does not take, each with the reason."""
    found = {}
    for name in tests:
        if PROBES[name].n_tasks > 1 and model.info.tasks == "single":
            found[name] = "for multi-task models"
        elif (work := _work_of(model, PROBES[name].largest)) > MOST_WORK:
            found[name] = f"a bag of {PROBES[name].largest:,} patches costs {work / 1e6:,.0f} million multiply-adds"
    return found


def _work_of(model: type[MILModel], patches: int) -> int:
    """Multiply-adds of a forward. A plug-in's are not counted: its code must not run in this process."""
    counted = multiply_adds(model, WIDTH, 1, reduced_arguments(model), at_patches=patches) if is_baseline(model) else 0
    return counted or 0


def contract_of(model: type[MILModel], plugins: Sequence[Path]) -> list[Finding]:
    """Rules of docs/models.md that the model breaks. A model of others is tried in a process of its own."""
    if "binary" not in model.info.kinds:
        return [Finding(is_final=True, what=f"it learns {', '.join(model.info.kinds)} tasks, and the tests are binary")]
    arguments = reduced_arguments(model)
    if is_baseline(model):
        return findings_of(model, WIDTH, Outputs.of(1), arguments)
    return findings_by_model([binary_case(model, WIDTH, arguments)], plugins, CASE_SECONDS)[model.info.name]


def verdicts_of(
    model: type[MILModel],
    tests: Sequence[str],
    *,
    seeds: int,
    workers: int,
    plugins: Sequence[Path] = (),
    watch: Watch = lambda scores, _: scores,
) -> list[Verdict]:
    """Verdict of each test, in order.

    Parameters
    ----------
    seeds : number of seeds, counted from 0.
    workers : processes; 1 = this one. Scores do not depend on it.
    plugins : files that register the model, for the workers.

    If a worker is killed, what is left counts as trainings that failed, and says so.
    """
    units = [(name, seed) for name in tests for seed in range(seeds)]
    calls = (delayed(_score)(model.info.name, name, seed, tuple(plugins)) for name, seed in units)
    scores: list[Score] = []
    try:
        for score in watch(Parallel(n_jobs=workers, return_as="generator", batch_size=1)(calls), len(units)):
            scores.append(score)
    except TerminatedWorkerError:
        scores += [Score(nan, nan, nan, 0.0, KILLED)] * (len(units) - len(scores))
    by_test: Mapping[str, list[Score]] = {name: [] for name in tests}
    for (name, _), score in zip(units, scores, strict=True):
        by_test[name].append(score)
    return [verdict_of(PROBES[name], of_test) for name, of_test in by_test.items()]


def _score(model: str, test: str, seed: int, plugins: Sequence[Path]) -> Score:
    return score_of(load_models(plugins)[model], PROBES[test], seed)


def refuse_numbers(seeds: int, workers: int) -> None:
    """Raise `UsageError` for numbers that cannot be meant."""
    for flag, number, most in (("--seeds", seeds, 100), ("--workers", workers, 1000)):
        if not 1 <= number <= most:
            raise UsageError(f"{flag} is {number}; expected 1 to {most}.")
