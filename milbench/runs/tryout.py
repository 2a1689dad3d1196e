"""Tryout: each model of a plan on bags of 1, 2 and 7 patches, before anything trains.

milbench's own models are only built, without numbers in their weights: their arguments are what a user may get wrong.
Models of others run in a process of their own, because they may kill it or never come back. This file is that process too::

    python -m milbench.runs.tryout ANSWERS < CASES
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError
from milbench.models import MILModel
from milbench.process.must_return import DidNotReturnError, must_return
from milbench.registry import IMPORT_SECONDS, is_baseline, load_models
from milbench.runs.preparation import Benchmark
from milbench.store.identity import canonical_json
from milbench.training.contract import (
    BrokenRule,
    Finding,
    findings_of,
    place_of,
    refuse_impossible_arguments,
)
from milbench.trials.plan import Trial

CASE_SECONDS = 20.0
"""Longest time for the three small bags of one model, as long as `--trial-timeout` does not name less."""

GRACE_SECONDS = 10.0


class Case(NamedTuple):
    """One way in which the plan builds a model.

    Attributes
    ----------
    endpoints : JSON list of what the tasks ask, in order.
    tasks : their names, for messages; none if all are binary, so that equal tasks are one case.
    """

    model: str
    in_features: int
    endpoints: str
    tasks: tuple[str, ...]
    hyperparameters: str

    def outputs(self) -> Outputs:
        """What the model must answer."""
        return Outputs([FittedEndpoint.from_dict(values) for values in json.loads(self.endpoints)])

    def arguments(self) -> Mapping[str, Any]:
        """The constructor arguments."""
        return dict(json.loads(self.hyperparameters))


Answer = list[tuple[bool, str]] | str
"""What the process says of one case: its findings, or how the model did not come back."""


@dataclass(frozen=True)
class Tried:
    """What the small bags showed.

    Attributes
    ----------
    warnings : sentences on rules that models break, each with file, line and page.
    lost : models that killed their process or did not come back.
    """

    warnings: tuple[str, ...]
    lost: frozenset[str]


def try_models(benchmark: Benchmark) -> Tried:
    """What is wrong with the models of the trials that are left.

    Raises
    ------
    UsageError : a model cannot be built as asked, or no training of it can end right.
    """
    baselines = {name for name, model in benchmark.models.items() if is_baseline(model)}
    found = [_of_baseline(benchmark, case) for case in _cases(benchmark, benchmark.trials, baselines)]
    others = benchmark.models.keys() - baselines
    # looking for what is left reads all that is stored, so it is done only if a model of others is there
    foreign = _cases(benchmark, benchmark.unfinished_trials(), others) if others else []
    seconds = min(CASE_SECONDS, benchmark.config.engine.trial_timeout or CASE_SECONDS)
    lost: dict[str, str] = {}
    found += _of_others(foreign, benchmark.config.plugins, seconds, lost)
    told = dict.fromkeys(
        (finding.is_final, _sentence(benchmark, case, finding)) for case, findings in found for finding in findings
    )
    if final := [sentence for is_final, sentence in told if is_final]:
        raise UsageError("\n  ".join(final))
    lost_sentences = [
        _sentence(benchmark, case, Finding(is_final=False, what=lost[case.model]))
        for case in foreign
        if case.model in lost
    ]
    return Tried(tuple(dict.fromkeys([*lost_sentences, *(sentence for _, sentence in told)])), frozenset(lost))


def binary_case(model: type[MILModel], in_features: int, hyperparameters: Mapping[str, Any]) -> Case:
    """The case of one binary task, for `findings_by_model`."""
    endpoints = canonical_json([endpoint.as_dict() for endpoint in Outputs.of(1).endpoints])
    return Case(model.info.name, in_features, endpoints, (), canonical_json(dict(hyperparameters)))


def findings_by_model(cases: Sequence[Case], plugins: Iterable[Path], seconds: float) -> dict[str, list[Finding]]:
    """Findings of each case's model, tried in a process of its own. One that the process did not survive is final."""
    lost: dict[str, str] = {}
    found = {
        case.model: findings for case, findings in _of_others(cases, [str(path) for path in plugins], seconds, lost)
    }
    return found | {name: [Finding(is_final=True, what=what)] for name, what in lost.items()}


def _cases(benchmark: Benchmark, trials: Iterable[Trial], models: Container[str]) -> list[Case]:
    """The ways in which the trials build these models, each once."""
    widths = {entry.cohort.name: entry.cohort.in_features for entry in benchmark.entries}
    return list(dict.fromkeys(_case(trial, widths[trial.dataset]) for trial in trials if trial.model in models))


def _case(trial: Trial, in_features: int) -> Case:
    outputs = trial.outputs
    endpoints = canonical_json([_form(endpoint).as_dict() for endpoint in outputs.endpoints])
    tasks = () if outputs.all_binary else tuple(trial.tasks)
    return Case(trial.model, in_features, endpoints, tasks, canonical_json(dict(trial.hyperparameters)))


def _form(endpoint: FittedEndpoint) -> FittedEndpoint:
    """The endpoint with nothing of its fold except the number of time bins, so that all folds are one case."""
    edges = tuple(float(place + 1) for place in range(len(endpoint.edges)))
    return replace(endpoint, edges=edges, center=0.0, scale=1.0, constant_loss=1.0)


def _sentence(benchmark: Benchmark, case: Case, finding: Finding) -> str:
    return f"model '{case.model}' ({place_of(benchmark.models[case.model])}): {finding.what}. See docs/models.md."


def _of_baseline(benchmark: Benchmark, case: Case) -> tuple[Case, list[Finding]]:
    try:
        refuse_impossible_arguments(benchmark.models[case.model], case.in_features, case.outputs(), case.arguments())
    except BrokenRule as broken:
        return case, [broken.finding]
    return case, []


def _of_others(
    cases: Sequence[Case], plugins: Iterable[str], seconds: float, lost: dict[str, str]
) -> list[tuple[Case, list[Finding]]]:
    """Findings by case. A model that its process did not survive goes into `lost`, with what it did."""
    found: list[tuple[Case, list[Finding]]] = []
    left = list(cases)
    while left:
        answers, ended = _in_a_process(left, plugins, seconds)
        for case, answer in zip(left, answers, strict=False):
            if isinstance(answer, str):
                lost[case.model] = answer
            else:
                found.append((case, [Finding(*finding) for finding in answer]))
        left = left[len(answers) :]
        if left:
            lost[left[0].model] = ended
        left = [case for case in left if case.model not in lost]
    return found


def _in_a_process(cases: Sequence[Case], plugins: Iterable[str], seconds: float) -> tuple[list[Answer], str]:
    """Answers of the process for the cases that it came to, in order, and how it ended."""
    asked = {"plugins": [str(Path(plugin).absolute()) for plugin in plugins], "cases": cases, "seconds": seconds}
    limit = IMPORT_SECONDS + len(cases) * (seconds + GRACE_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers"
        command = [sys.executable, "-m", "milbench.runs.tryout", str(answers)]
        nowhere = subprocess.DEVNULL  # a pipe would be read until the last process that the model started closes it
        try:
            ended = subprocess.run(  # noqa: S603 - this interpreter, with this file
                command, input=json.dumps(asked).encode(), stdout=nowhere, stderr=nowhere, timeout=limit, check=False
            )
            how = f"it ended the process that tried it, with code {ended.returncode}"
        except subprocess.TimeoutExpired:
            how = f"it did not come back from a small bag within {seconds:g} seconds"
        lines = answers.read_text().splitlines() if answers.exists() else []
    return [json.loads(line) for line in lines], how


def main(answers: Path, asked: Mapping[str, Any]) -> None:
    """Write one line per case to `answers`, as soon as the case has been tried."""
    models = load_models(Path(plugin) for plugin in asked["plugins"])
    with answers.open("w") as file:
        for case in (Case(*values) for values in asked["cases"]):
            try:
                with must_return(asked["seconds"]):
                    found = findings_of(
                        models[case.model], case.in_features, case.outputs(), case.arguments(), tasks=case.tasks
                    )
                answer: Answer = [(finding.is_final, finding.what) for finding in found]
            except DidNotReturnError as error:
                answer = f"on a small bag, {error}"
            file.write(json.dumps(answer) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.load(sys.stdin))
    os._exit(0)  # a thread that the model has started may never end
