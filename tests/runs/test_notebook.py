"""A run in a notebook: one door, one table, models that answer as they did, and the page that says so."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from weighted_runs_for_tests import ONE_EPOCH, train, write_cohort

import milbench
from milbench import models
from milbench.commands.cli import main
from milbench.datasets.digits import digits_cohort
from milbench.errors import DataError, StoreError, UsageError
from milbench.models import REGISTERED
from milbench.runs.notebook import NotebookRun, chosen_slot
from milbench.store.slot import slot_of

NAMES = (
    "a/amil/x/fold0-seed1", "a/amil/y/fold0-seed1", "a/m4/all/fold0-seed1", "a/m4/all/fold1-seed1",
    "b/m4/z/fold0-seed1", "b/m4/z/fold0-seed2",
)  # fmt: skip


def pick(model: str, **said: Any) -> str:
    asked = {"dataset": None, "task": None, "fold": None, "seed": None, **said}
    return chosen_slot([slot_of(name, name) for name in NAMES], model=model, **asked).trial_id


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    folder = tmp_path_factory.mktemp("notebook")
    cohort = write_cohort(folder / "lattice")
    (cohort / "cohort.yaml").write_text(
        "name: lattice\nlabels: labels.csv\nfeatures: features\nfeature_scaling: standard\n"
    )
    return milbench.open_run(str(train(folder, cohort, models=("amil", "m4"))))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"model": "amil", "task": "y"}, "a/amil/y/fold0-seed1"),
        ({"model": "m4", "dataset": "a", "fold": 1}, "a/m4/all/fold1-seed1"),
        ({"model": "m4", "dataset": "a", "fold": 0, "task": "x"}, "a/m4/all/fold0-seed1"),
        ({"model": "m4", "dataset": "b", "seed": 2}, "b/m4/z/fold0-seed2"),
    ],
)
def test_what_there_is_one_of_need_not_be_said(said: dict[str, Any], found: str) -> None:
    assert pick(**said) == found


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"model": "ami"}, "unknown model of the run 'ami'. Did you mean 'amil'? Known: amil, m4."),
        ({"model": "amil"}, "amil on a has several tasks: x, y. Say which, for example task='x'."),
        ({"model": "amil", "task": "z"}, "unknown task of amil on a 'z'. Known: x, y."),
        ({"model": "m4"}, "m4 has several datasets: a, b. Say which, for example dataset='a'."),
        ({"model": "amil", "dataset": "b"}, "unknown dataset of amil 'b'. Known: a."),
        ({"model": "m4", "dataset": "a"}, "m4 on a has several folds: 0, 1. Say which, for example fold=0."),
        ({"model": "m4", "dataset": "a", "fold": 2}, "unknown fold of m4 on a '2'. Known: 0, 1."),
        ({"model": "m4", "dataset": "b"}, "m4 on b, fold 0 has several seeds: 1, 2. Say which, for example seed=1."),
    ],
)
def test_what_is_unknown_or_ambiguous_names_what_exists(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        pick(**said)


@pytest.mark.parametrize(("name", "said"), [("amil", {"task": "B"}), ("m4", {})])
def test_a_model_answers_as_it_did_when_it_was_trained(run: NotebookRun, name: str, said: dict[str, str]) -> None:
    model = run.model(name, fold=0, **said)
    assert not any(module.training for module in model.modules())
    table = run.predictions()
    test = table[(table["model"] == name) & (table["fold"] == 0) & (table["role"] == "test")]
    for row in test[test["task"].isin(model.tasks)].itertuples():
        bag = run.cohort().load(row.slide_id)
        answer = model.probabilities(bag.features)[model.tasks.index(row.task)]
        assert float(answer) == pytest.approx(row.probability, abs=1e-6)
        assert torch.equal(torch.sigmoid(model(bag.features).logits), model.probabilities(bag.features))


def test_a_model_of_all_tasks_refuses_a_task_that_it_did_not_learn(run: NotebookRun) -> None:
    with pytest.raises(UsageError, match=re.escape("unknown task of m4 on lattice 'C'. Known: A, B.")):
        run.model("m4", task="C", fold=0)


def test_a_model_shows_itself_in_one_line(run: NotebookRun) -> None:
    model = run.model("m4", fold=1)
    count = sum(weight.numel() for weight in model.parameters())
    assert repr(model) == f"StoredModel({model.trial.id}: {count:,} parameters)"
    assert "\n" not in repr(run) + repr(run.cohort())


def test_a_cohort_that_the_run_does_not_have_is_named(run: NotebookRun) -> None:
    with pytest.raises(UsageError, match=r"unknown dataset of run lattice 'digits'\. Known: lattice"):
        run.cohort("digits")


def test_what_is_no_run_names_the_runs_there_are(run: NotebookRun) -> None:
    with pytest.raises(StoreError, match=r"holds no run.*lattice"):
        milbench.open_run(run.path.parent / "other")
    with pytest.raises(StoreError, match=rf"holds no run.*Runs in {run.path.parent}: .*lattice"):
        milbench.open_run(run.path.parent)


def test_a_cohort_is_read_by_path_or_by_name(run: NotebookRun, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "lattice")
    found = milbench.read_cohort(folder)
    assert found.name == "lattice"
    assert found.fingerprint == milbench.read_cohort(str(folder)).fingerprint
    assert milbench.read_cohort("digits").fingerprint == digits_cohort().fingerprint


def test_what_is_no_cohort_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown dataset, folder or YAML file 'digit'\. Did you mean 'digits'"):
        milbench.read_cohort("digit")


def test_maps_of_a_stored_model_and_of_a_bare_one(run: NotebookRun) -> None:
    model, bag = run.model("m4", fold=0), run.cohort().load(run.cohort().slides["slide_id"][0])
    maps = milbench.attention(model, bag)
    assert maps.per_task.shape == (2, len(bag))
    assert torch.equal(maps.per_task, model.maps(bag.features).per_task)
    bare = model.model.train()
    raw = milbench.attention(bare, bag)
    assert bare.training
    assert not raw.per_task.requires_grad
    assert torch.equal(raw.per_task, bare.eval().attention_maps(bag.features).per_task)
    assert not torch.equal(raw.per_task, maps.per_task)  # the run's scaling is the stored model's


def test_statistics_of_a_run_without_trials_say_so(run: NotebookRun, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("trials"))
    with pytest.raises(StoreError, match="no finished trial to analyse"):
        milbench.statistics(milbench.open_run(tmp_path / "run"))


def test_statistics_refuse_what_the_report_refuses_and_show_themselves_in_one_line(run: NotebookRun) -> None:
    with pytest.raises(UsageError, match=r"draws is 0\. Give 100 or more"):
        milbench.statistics(run, draws=0)
    with pytest.raises(UsageError, match=r"unknown reference model 'amli'\. Did you mean 'amil'"):
        milbench.statistics(run, reference="amli", draws=100)
    told = repr(milbench.statistics(run, draws=100)["binary"])
    assert told == (
        "Analysis(AUROC of 2 models on 2 tasks: tables scores, tasks, cells, against, cohorts, overall, pairs)"
    )


def test_a_bag_in_place_of_features_and_features_in_place_of_a_bag_are_told_apart(run: NotebookRun) -> None:
    model, bag = run.model("m4", fold=0), run.cohort().load(run.cohort().slides["slide_id"][0])
    for ask in (model, model.probabilities, model.answers, model.maps):
        with pytest.raises(UsageError, match=r"not its bag\. Write bag\.features"):
            ask(bag)
        with pytest.raises(UsageError, match=r"a torch tensor, not as ndarray.* torch\.from_numpy\(features\)"):
            ask(bag.features.numpy())
    with pytest.raises(UsageError, match=r"attention takes a bag.* got Tensor"):
        milbench.attention(model, bag.features)


def test_a_slide_that_digits_does_not_have_is_named() -> None:
    with pytest.raises(DataError, match=r"no slide 'digits-9999'\. The slides are digits-0000 to digits-0739"):
        digits_cohort().load("digits-9999")


def test_importing_milbench_imports_nothing_heavy() -> None:
    code = (
        "import sys, milbench; print(sorted({'torch','pandas','numpy','mlflow','yaml','milbench.errors'} & set(sys.modules)));"
        "print(callable(milbench.open_run), 'open_run' in dir(milbench), 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\nTrue True False\n"


def test_type_checkers_see_the_names_that_milbench_offers() -> None:
    tree = ast.parse(Path(milbench.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        name.name: node.module for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)
        for name in node.names
    }  # fmt: skip
    assert seen == milbench._DOORS
    assert sorted(seen) == milbench.__all__
    assert all(callable(getattr(milbench, name)) for name in milbench.__all__)


def test_a_name_that_milbench_does_not_offer_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'load_run'\. It offers .*open_run"):
        _ = milbench.load_run


def test_the_code_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--models", "amil", "m4", "--run", "runs/digits", *ONE_EPOCH]) == 0
    assert main(["export", "runs/digits", "amil", "--task", "has_0", "--draws", "100"]) == 0
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    names: dict[str, Any] = {"__name__": "a_notebook"}
    monkeypatch.setattr(models, "REGISTERED", dict(REGISTERED))
    for block in blocks:
        exec(block, names)
    assert set(names["table"]["model"]) == {"amil", "m4"}
    assert all(0 <= value <= 1 for value in names["auroc"].values())
    assert {model for model, _, _ in names["auroc"]} == {"amil", "m4"}
    assert len(names["curves"]) == len(names["run"].trials())  # of one epoch
    assert set(names["scores"]["model"]) == set(names["table"]["model"])
    assert len(names["comparisons"]) == 1
    assert 0 < names["answer"]["probability"] < 1
    assert names["same"] == names["answer"]
    assert names["score"]["number"] == 2
    assert names["seconds"] > 0
    assert names["probabilities"].shape == (len(names["model"].tasks),) == (len(names["cohort"].tasks),)
    assert names["maps"].per_task.shape == (1, len(names["bag"]))
    assert len(names["training"].history) == len(names["mine"].history) == 2
    assert names["mine"].trial.hyperparameters == {"k": 4}
    assert names["probability"].shape == (1,)
    assert names["amil"].tasks == ("has_0",)
    assert set(names["weights"]) == set(names["amil"].model.state_dict())
