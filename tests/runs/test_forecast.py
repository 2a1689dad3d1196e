"""The forecast: what a process beside the run foretells."""

from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from milbench.runs import forecast as module
from milbench.runs.config import RunConfig
from milbench.runs.estimate import Estimate
from milbench.runs.forecast import forecast, seconds_per_trial
from milbench.runs.passes import pool_settings
from milbench.runs.preparation import Benchmark, prepare


@pytest.fixture
def benchmark(cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    monkeypatch.chdir(tmp_path)
    return prepare(RunConfig(cohorts=(str(cohort_folder),), models=("amil", "mmoe_amil"), folds=(0,)))


def test_seconds_are_per_trial_and_a_model_that_failed_has_none(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = benchmark.entries[0].cohort.name
    seconds = {(name, "amil"): 8.0, (name, "mmoe_amil"): 0.0}
    monkeypatch.setattr("milbench.runs.estimate.estimate", lambda _: Estimate(seconds, {"mmoe_amil": "it broke"}))
    assert seconds_per_trial(benchmark, ()) == {(name, "amil"): 4.0}, "one trial per task, of which there are two"


def test_a_process_beside_the_run_makes_it(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_RUN_SECONDS", 0.0)
    with forecast(benchmark, pool_settings(benchmark)) as found:
        for _ in range(600):
            if found.seconds:
                break
            sleep(0.1)
        assert {model for _, model in found.seconds} == {"amil", "mmoe_amil"}
        assert all(seconds > 0 for seconds in found.seconds.values())


def test_workers_elsewhere_have_none(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(pool_settings(benchmark), address="tcp://localhost:1")
    assert settings.is_elsewhere
    with forecast(benchmark, settings) as found:
        assert found.seconds == {}


def test_a_run_that_is_over_soon_starts_no_process(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_RUN_SECONDS", 0.2)
    with forecast(benchmark, pool_settings(benchmark)) as found:
        pass
    sleep(0.5)
    assert found.executor is None
    found.start()
    assert found.executor is None
