"""The estimate of `milbench plan`: probes of what would really run, scaled to the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from milbench.runs import estimate
from milbench.runs.config import RunConfig
from milbench.runs.estimate import estimated_seconds
from milbench.runs.preparation import prepare


def config(cohort: Path, stack: str) -> RunConfig:
    asked = RunConfig(cohorts=(str(cohort),), models=("amil", "mmoe_amil"), folds=(0, 1))
    return replace(asked, engine=replace(asked.engine, stack=stack, workers=2))


@pytest.mark.parametrize(("stack", "seconds"), [("on", 2 + 1), ("off", 2 * (2 + 1))])
def test_each_trial_is_counted_once_a_stack_as_one(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: str, seconds: float
) -> None:
    """Two folds of two models. Amil stacks its two tasks in each fold, mmoe_amil its two folds. A probe costs a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "_probe", lambda *_: 1.0)
    found, how = estimated_seconds(prepare(config(cohort_folder, stack)))
    assert found == seconds / 2
    assert "2 workers" in how


def test_a_probe_trains_the_stack(cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sizes: list[int] = []
    real = estimate.Learner

    def counted(models: list, *more: object, **named: object) -> object:
        sizes.append(len(models))
        return real(models, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(estimate, "Learner", counted)
    seconds, _ = estimated_seconds(prepare(config(cohort_folder, "on")))
    assert set(sizes) == {2, 1}, "two tasks of amil in one learner, mmoe_amil in one for each fold"
    assert seconds > 0


def test_a_model_that_raises_is_left_out_and_named(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def probe(entry: object, trials: list, device: object) -> float:
        if trials[0].model == "amil":
            raise TypeError("hidden is a word")
        return 1.0

    monkeypatch.setattr(estimate, "_probe", probe)
    seconds, how = estimated_seconds(prepare(config(cohort_folder, "on")))
    assert seconds == 1 / 2, "both folds of mmoe_amil are one stack"
    assert how.endswith("without amil, which failed: TypeError: hidden is a word")
