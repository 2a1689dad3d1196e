"""The forecast: what a process beside the run foretells."""

from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from milbench.datasets import all_datasets
from milbench.models import REGISTERED
from milbench.runs import forecast as module
from milbench.runs.config import RunConfig
from milbench.runs.estimate import Estimate
from milbench.runs.forecast import forecast, import_first, seconds_per_trial
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
    monkeypatch.setattr(
        "milbench.runs.estimate.estimate", lambda *_, **__: Estimate(seconds, {"mmoe_amil": "it broke"})
    )
    assert seconds_per_trial(benchmark) == {(name, "amil"): 4.0}, "one trial per task, of which there are two"


PLUGIN = """
import numpy as np
import pandas as pd
import torch
from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort
from milbench.datasets import register_dataset
from milbench.models import BagOutput, MILModel, register_model


@register_model("of_the_plug_in", title="Theirs", tasks="single")
class Theirs(MILModel):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.head = torch.nn.Linear(in_features, n_tasks)

    def forward(self, features: torch.Tensor) -> BagOutput:
        return BagOutput(self.head(features.mean(0)), None, {})


class Loader:
    def __call__(self, slide: str) -> Bag:
        return Bag(torch.full((4, 3), float(slide[1:])), slide)


@register_dataset("made")
def made() -> Cohort:
    slides = pd.DataFrame({"slide_id": [f"s{i}" for i in range(40)], "patient_id": [f"p{i}" for i in range(40)]})
    return Cohort("made", slides.assign(t=np.arange(40) % 2.0), ("t",), 3, "abc", Loader())
"""


def test_a_process_beside_the_run_makes_it_also_of_plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SHORT_RUN_SECONDS", 0.0)
    monkeypatch.setattr("milbench.models.REGISTERED", dict(REGISTERED))
    monkeypatch.setattr("milbench.datasets._CATALOGUE", dict(all_datasets()))
    Path("theirs.py").write_text(PLUGIN)
    models = ("amil", "of_the_plug_in")
    benchmark = prepare(RunConfig(datasets=("made",), models=models, folds=(0,), plugins=("theirs.py",)))
    with forecast(benchmark, pool_settings(benchmark)) as found:
        for _ in range(600):
            if found.seconds:
                break
            sleep(0.1)
        assert set(found.seconds) == {("made", model) for model in models}
        assert all(seconds > 0 for seconds in found.seconds.values())


def test_a_plug_in_that_is_gone_is_no_word_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import_first([tmp_path / "gone.py"])
    assert capfd.readouterr() == ("", "")


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


def test_a_long_run_knows_milbenchs_own_models_when_it_starts(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORT_RUN_SECONDS", 0.0)
    monkeypatch.setattr(module, "LONG_RUN_BAGS", 0)
    name = benchmark.entries[0].cohort.name
    with forecast(benchmark, pool_settings(benchmark)) as found:
        assert set(found.seconds) == {(name, "amil"), (name, "mmoe_amil")}
        assert min(found.seconds.values()) > 0
        sleep(0.2)
    assert found.executor is None, "nothing is left to a process beside the run"


def test_nothing_is_probed_at_the_start_of_a_short_run_or_of_large_bags(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.quick_forecast(benchmark) == {}
    monkeypatch.setattr(module, "LONG_RUN_BAGS", 0)
    monkeypatch.setattr(module, "QUICK_BYTES", 1.0)
    assert module.quick_forecast(benchmark) == {}


def test_what_a_budget_does_not_reach_is_left_out(benchmark: Benchmark) -> None:
    assert seconds_per_trial(benchmark, budget=-1.0) == {}
    found = seconds_per_trial(benchmark, without={"amil"}, budget=60.0)
    assert [model for _, model in found] == ["mmoe_amil"]
