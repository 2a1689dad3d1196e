"""`plan` and `run` try each model before anything trains, and say once what is wrong."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands_for_tests import Milbench
from outputs_for_tests import SINGLE
from rule_breakers import THIS_FILE

from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import UsageError
from milbench.runs.config import make_config
from milbench.runs.notebook import open_run
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.tryout import try_models


def benchmark(cohort: Path, folder: Path, *models: str, **more: object) -> Benchmark:
    flags = {"cohorts": [str(cohort)], "models": list(models), "plugins": [str(THIS_FILE)], "run": str(folder / "run")}
    return prepare(make_config(None, [], {**flags, **more}))


@pytest.mark.usefixtures("fresh_interpreter")
def test_models_that_kill_their_process_or_never_come_back_are_warned_of_and_the_rest_is_tried(
    cohort_folder: Path, tmp_path: Path
) -> None:
    names = ("branches", "keeps_all", "kills_itself", "leaves", "waits")
    tried = try_models(benchmark(cohort_folder, tmp_path, *names, engine={"trial_timeout": 0.5}))
    assert tried.lost == {"kills_itself", "leaves", "waits"}
    said = "\n".join(tried.warnings)
    for words in (
        "model 'kills_itself'", "ended the process that tried it, with code -9",
        "model 'leaves'", "ends the process with os._exit(0)",
        "model 'waits'", "has not come back after 0.5 seconds; it stands in line",
        "model 'branches'", "rule_breakers.py, line", "See docs/models.md.",
    ):  # fmt: skip
        assert words in said
    assert "keeps_all" not in said
    assert len(tried.warnings) == 4, "once, although there are two tasks and five folds"


def test_threads_and_processes_that_a_model_leaves_behind_are_not_waited_for(
    cohort_folder: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    tried = try_models(benchmark(cohort_folder, tmp_path, "keeps_a_thread"))
    assert not tried.lost
    assert time.monotonic() - begun < 100, "its process alone may take two minutes to import"


def test_models_that_can_end_right_in_no_training_are_refused_all_at_once(cohort_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        try_models(benchmark(cohort_folder, tmp_path, "keeps_all", "normalises", "own_chance"))
    assert "model 'normalises'" in str(refused.value)
    assert "model 'own_chance'" in str(refused.value)
    assert "keeps_all" not in str(refused.value)


def test_models_are_tried_for_the_logits_of_the_plans_tasks_once_for_all_folds(
    cohort_folder: Path, tmp_path: Path
) -> None:
    plan = benchmark(cohort_folder, tmp_path, "amil", "keeps_all", "one_too_many")
    kinds = {"A": SINGLE["classes"], "B": SINGLE["bins"]}
    trials = [replace(trial, endpoints=(of_fold(kinds[trial.tasks[0]], trial.fold),)) for trial in plan.trials]
    with pytest.raises(UsageError) as refused:
        try_models(replace(plan, trials=trials))
    said = str(refused.value).splitlines()
    assert len(said) == 2, "one per task: what a fold fits makes no other model"
    assert "Return 4 logits: one per class of A. " in said[0]
    assert "Return 4 logits: one per time bin of B. " in said[1]
    assert all("model 'one_too_many' (" in line for line in said)


def of_fold(endpoint: FittedEndpoint, fold: int) -> FittedEndpoint:
    """The endpoint as another fold fits it."""
    return replace(endpoint, edges=tuple(edge + fold for edge in endpoint.edges), constant_loss=1.0 + fold)


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.amil.hidden=-3", "model.amil.hidden is -3; expected a number from 1"),
        ("model.amil.hidden=0", "model.amil.hidden is 0; expected a number from 1"),
        ("model.amil.hidden=huge", "model.amil.hidden is 'huge'; expected a whole number, like its default 512"),
        ("model.amil.hidden=99999999999", "from 1 to 1,000,000"),
        ("model.amil.dropout=2", "dropout is 2, which is no probability"),
        ("seeds=[99999999999999999999]", "a seed lies between -2^63 and 2^63 - 1"),
        ("engine.workers=1000000", "engine.workers is 1000000; the most is 1024"),
        ("trainer.epochs=99999999999", "trainer.epochs is 99999999999; the most is 1,000,000"),
        ("trainer.betas=[a,b]", "expected two numbers from 0 to below 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_plan_and_run_alike(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, command: str, setting: str, said: str
) -> None:
    words = (command, "--cohort", str(cohort_folder), "--models", "amil", "--no-tracking", "--run", "out")
    result = milbench_here(*words, "--set", setting)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / "out" / "trials").exists()


def test_a_cohorts_settings_reach_baselines_and_models_that_ask_for_them(
    milbench_here: Milbench, cohort_folder: Path
) -> None:
    (cohort_folder / "cohort.yaml").write_text(
        "name: toy\nlabels: labels.csv\nfeatures: features\nmodel: {hidden: 4}\ntrainer: {epochs: 1}\n"
    )
    plan = benchmark(cohort_folder, cohort_folder, "amil", "keeps_all", "takes_settings")
    assert {trial.model: trial.hyperparameters["hidden"] for trial in plan.trials} == {
        "amil": 4, "keeps_all": 8, "takes_settings": 4,
    }  # fmt: skip
    printed = milbench_here("plan", "--cohort", str(cohort_folder), "--models", "amil", "keeps_all", "takes_settings",
                            "--plugin", str(THIS_FILE))  # fmt: skip
    assert "settings for its size: hidden 512 -> 4 of amil" in printed.stdout, printed.stderr
    assert "settings for its size: hidden 8 -> 4 of takes_settings" in printed.stdout
    assert "keeps_all keeps hidden 8: a cohort sets arguments of baselines only" in printed.stdout


TRANSPOSED = """
import torch
from torch import nn
from milbench.models import BagOutput, MILModel, register_model

@register_model("transposed", title="Transposed", tasks="single")
class Transposed(MILModel):
    def __init__(self, in_features, n_tasks):
        super().__init__(in_features, n_tasks)
        self.mix = nn.Parameter(torch.randn(in_features, 5).t())
        self.tied = self.mix
        self.register_buffer("fixed", torch.randn(5, n_tasks).t())

    def forward(self, features):
        return BagOutput(self.fixed @ torch.tanh(self.mix @ features.mean(0)), None, {})
"""


def test_weights_that_lie_transposed_in_memory_give_the_same_answers_from_disk(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(TRANSPOSED)
    words = ("run", "--cohort", str(cohort_folder), "--models", "transposed", "--plugin", "mine.py", "--folds", "0",
             "--workers", "1", "--no-tracking", "--run", "out", "--set", "trainer.epochs=2", "trainer.lr=0.01")  # fmt: skip
    assert milbench_here(*words).returncode == 0
    run = open_run(tmp_path / "out")
    model, cohort = run.model("transposed", task="A"), run.cohort()
    table = run.predictions().query("task == 'A' and role == 'test'")
    assert len(table) > 0
    for row in table.itertuples():
        answer = float(model.probabilities(cohort.load(row.slide_id).features)[0])
        assert answer == pytest.approx(row.probability, abs=1e-6)
