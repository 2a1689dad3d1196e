"""One training in a notebook is the run's trial: the same weights, history and answers."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kinds_cohort_for_tests import TASKS, make_cohort_of_kinds, train_every_kind
from rich.console import Console
from torch import Tensor

import milbench
from milbench.cohorts.cohort import Cohort
from milbench.errors import MilbenchError, UsageError
from milbench.models import REGISTERED, BagOutput, MILModel, register_model
from milbench.process.shared_state import left_as_it_was
from milbench.runs import one_training
from milbench.runs.notebook import NotebookRun

SIZES = {"hidden": 8, "attention": 4}
TRAINER = {"epochs": 2, "lr": 0.01, "survival_loss": "cox", "bags_per_step": 16}
SETTINGS = [f"trainer.{name}={value}" for name, value in TRAINER.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    """Scaled by training slides, so that the scaler is part of what must be equal."""
    folder = tmp_path_factory.mktemp("fit")
    cohort = make_cohort_of_kinds(folder / "toy")
    with (cohort / "cohort.yaml").open("a") as file:
        file.write("feature_scaling: standard\n")
    return milbench.open_run(train_every_kind(cohort, folder / "runs" / "toy", *SETTINGS, "engine.stack=off"))


@pytest.fixture(scope="module")
def cohort(run: NotebookRun) -> Cohort:
    return milbench.read_cohort(run.path.parent.parent / "toy")


def arguments_of(model: str) -> dict[str, int]:
    return SIZES if model == "m4" else {"hidden": SIZES["hidden"]}


@pytest.mark.parametrize(("model", "task"), [*(("mean_pooling", task) for task in TASKS), ("m4", None)])
def test_the_weights_are_those_of_the_run(run: NotebookRun, cohort: Cohort, model: str, task: str | None) -> None:
    trained = milbench.fit(
        model, cohort, task=task, fold=1, trainer=TRAINER, arguments=arguments_of(model), device="cpu"
    )
    stored = run.model(model, task=task, fold=1)
    for name, values in stored.state_dict().items():
        assert torch.equal(values, trained.model.state_dict()[name]), name
    pd.testing.assert_frame_equal(trained.answers, stored.trial.answers())
    pd.testing.assert_frame_equal(trained.history, stored.trial.history())
    assert trained.epoch == stored.trial.info["chosen_epoch"]
    bag = cohort.load(cohort.slides["slide_id"][0])
    np.testing.assert_array_equal(trained.model.answers(bag.features), stored.answers(bag.features))
    assert repr(trained).startswith(f"Training(toy/{model}/{task or 'all'}/fold1-seed42-")


def test_the_trial_is_the_runs_own(run: NotebookRun) -> None:
    """The run knows its feature files by content, and the cohort that it gives has that fingerprint."""
    stored = run.model("mean_pooling", task="A", fold=0).trial
    trained = milbench.fit(
        "mean_pooling", run.cohort(), task="A", trainer=TRAINER, arguments={"hidden": 8}, device="cpu"
    )
    assert (trained.trial.key, trained.trial.id) == (stored.info["key"], stored.id)


def test_another_seed_gives_other_weights_and_the_same_one_the_same(cohort: Cohort) -> None:
    def weights(seed: int) -> Tensor:
        return next(milbench.fit("mean_pooling", cohort, task="A", seed=seed, epochs=1).model.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_process_stays_as_it_was(cohort: Cohort) -> None:
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator that users share
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    with left_as_it_was() as moved:
        milbench.fit("mean_pooling", cohort, task="A", epochs=1)
    assert not moved
    assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == (threads, deterministic)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "mean_pooling on toy has several tasks: A, subtype, grade, hrd, os. Say which, for example task='A'."),
        ({"task": "B"}, "unknown task 'B'"),
        ({"task": "A", "fold": 9}, "unknown fold of toy '9'"),
        ({"task": "A", "trainer": {"epoch": 1}}, "unknown trainer setting 'epoch'. Did you mean 'epochs'?"),
        ({"task": "A", "arguments": {"hiden": 1}}, "unknown argument of model 'mean_pooling' 'hiden'"),
        ({"task": "A", "epochs": 0}, "trainer.epochs is 0; it must be above 0."),
        ({"task": "A", "trainer": {"lr": 1000.0, "epochs": 3}, "fold": 0, "device": "nowhere"}, "nowhere"),
    ],
)
def test_what_is_asked_wrongly_is_named(cohort: Cohort, said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        milbench.fit("mean_pooling", cohort, **said)


class Raises(MILModel):
    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__(in_features, n_outputs)
        self.head = torch.nn.Linear(in_features, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        raise ArithmeticError("from the model")


def test_what_a_model_raises_is_raised(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"Raises is no registered model\. Decorate it"):
        milbench.fit(Raises, cohort, task="A")
    monkeypatch.setitem(REGISTERED, "raises", Raises)
    register_model("raises", title="Raises", tasks="single")(Raises)
    with pytest.raises(ArithmeticError, match="from the model"):
        milbench.fit(Raises, cohort, task="A", epochs=1)


def test_a_training_that_diverges_says_so(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverges(MILModel):
        def __init__(self, in_features: int, n_outputs: int) -> None:
            super().__init__(in_features, n_outputs)
            self.head = torch.nn.Linear(in_features, n_outputs)

        def forward(self, features: Tensor) -> BagOutput:
            return BagOutput(self.head(features.mean(dim=0)) * float("inf"), None, {})

    monkeypatch.setitem(REGISTERED, "diverges", Diverges)
    register_model("diverges", title="Diverges", tasks="single")(Diverges)
    with pytest.raises(MilbenchError, match="the training loss became nan in epoch 1"):
        milbench.fit(Diverges, cohort, task="A", epochs=1)


def test_the_bar_counts_epochs(cohort: Cohort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "said").open("w+") as file:
        monkeypatch.setattr(one_training, "Console", lambda: Console(file=file, force_terminal=True, width=80))
        milbench.fit("mean_pooling", cohort, task="A", epochs=3)
        said = (tmp_path / "said").read_text()
        assert "mean_pooling, fold 0" in said
        assert "3/3" in said
        length = len(said)
        milbench.fit("mean_pooling", cohort, task="A", epochs=3, progress=False)
        assert "3/3" not in (tmp_path / "said").read_text()[length:]
