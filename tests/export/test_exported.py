"""A folder that was exported answers as the run did, and is refused if it is not what was exported."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports_for_tests import copy_of, exported, run_for_exports
from scipy.special import expit, log_softmax

import milbench
from milbench import models
from milbench.errors import StoreError, UsageError
from milbench.export.exported import load_exported
from milbench.runs.notebook import NotebookRun

TASKS = ("A", "subtype", "grade", "hrd", "os")


@pytest.fixture(scope="module", autouse=True)
def _no_onnx() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milbench.export.onnx_graph.find_spec", lambda _: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return run_for_exports(tmp_path_factory)


@pytest.fixture(scope="module")
def single(run: NotebookRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """M4 of fold 1, which answers tasks of every kind."""
    out = tmp_path_factory.mktemp("single") / "m4"
    exported(run, out, "m4", fold=1, task="os")
    return out


@pytest.fixture(scope="module")
def ensemble(run: NotebookRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ensemble") / "m4"
    exported(run, out, "m4")
    return out


def stored(run: NotebookRun, model: str, fold: int) -> dict[tuple[str, str, str], float]:
    """Answers on the test side by slide, task and name."""
    rows = run.answers()
    rows = rows[(rows["model"] == model) & (rows["fold"] == fold) & (rows["role"] == "test")]
    keys = rows[["slide_id", "task", "answer"]].itertuples(index=False, name=None)
    return dict(zip(keys, rows["prediction"], strict=True))


def test_a_single_training_answers_the_test_slides_as_the_run_stored_them(run: NotebookRun, single: Path) -> None:
    model, cohort, expected = milbench.load_exported(single), run.cohort(), stored(run, "m4", 1)
    assert model.tasks == ("os", "A", "subtype", "grade", "hrd")
    assert not any(part.training for part in model.modules())
    slides = sorted({slide for slide, _, _ in expected})
    found = {
        (slide, task, name): value
        for slide in slides
        for task, named in model.answers(cohort.load(slide).features).items()
        for name, value in named.items()
    }
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) / max(1, abs(expected[key])) for key in expected) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_a_model_of_one_task_answers_as_the_run_stored(run: NotebookRun, tmp_path: Path, task: str) -> None:
    exported(run, tmp_path / "out", "mean_pooling", task=task, fold=0)
    model, expected = load_exported(tmp_path / "out"), stored(run, "mean_pooling", 0)
    slide = next(slide for slide, asked, _ in expected if asked == task)
    answers = model.answers(run.cohort().load(slide).features)[task]
    assert list(answers) == [name for where, asked, name in expected if (where, asked) == (slide, task)]
    for name, value in answers.items():
        assert value == pytest.approx(expected[slide, task, name], abs=1e-5, rel=1e-5)


def test_an_ensemble_answers_as_that_of_the_run(run: NotebookRun, ensemble: Path) -> None:
    model, features = load_exported(ensemble), run.cohort().load(run.cohort().slides["slide_id"][3]).features
    answers = model.answers(features)
    assert tuple(answers) == TASKS
    for task in ("A", "os"):
        together = run.ensemble("m4", task=task)
        assert answers[task] == dict(zip(together.names, together.answers(features), strict=True))
    assert repr(model) == "ExportedModel(m4 on A, subtype, grade, hrd, os, 2 trainings)"


def test_an_ensemble_of_one_training_answers_on_the_scale_of_ensembles(run: NotebookRun, tmp_path: Path) -> None:
    one = copy_of(run, tmp_path / "copy")
    plan = json.loads((one.path / "plan.json").read_text())
    (one.path / "plan.json").write_text(json.dumps({slot: trial for slot, trial in plan.items() if "fold0" in slot}))
    exported(one, tmp_path / "out", "mean_pooling", task="os")
    model, features = load_exported(tmp_path / "out"), run.cohort().load(run.cohort().slides["slide_id"][3]).features
    (risk,) = one.ensemble("mean_pooling", task="os").answers(features)
    assert model.answers(features) == {"os": {"standardised risk": risk}}
    assert model.facts["thresholds"]["os"]["of"] == "standardised risk"


def test_logits_come_training_by_training(run: NotebookRun, ensemble: Path) -> None:
    features = run.cohort().load(run.cohort().slides["slide_id"][0]).features
    for fold, logits in enumerate(load_exported(ensemble)(features)):
        assert torch.equal(logits, run.model("m4", fold=fold)(features).logits)


def as_json_says(training: Mapping[str, Any], task: str, z: np.ndarray) -> list[float]:
    """Answers of logits z, as a reader of model.json would work them out."""
    told = training["tasks"][task]
    fitted = told["endpoint"]
    if told["kind"] == "binary":
        return [1 / (1 + np.exp(-z[0]))]
    if told["kind"] == "multiclass":
        return list(np.exp(log_softmax(z)))
    if told["kind"] == "ordinal":
        at_least = np.array([1, *np.cumprod(expit(z)), 0])
        each = at_least[:-1] - at_least[1:]
        return [float(np.arange(len(each)) @ each), *each]
    if told["kind"] == "regression":
        return [z[0] * fitted["scale"] + fitted["center"]]
    alive = np.cumprod(1 / (1 + np.exp(z)))
    return [-alive.sum(), *alive[:-1]]


def test_what_model_json_says_is_enough_to_turn_features_into_answers(run: NotebookRun, single: Path) -> None:
    facts = json.loads((single / "model.json").read_text())
    (training,) = facts["trainings"]
    raw = run.cohort().load(run.cohort().slides["slide_id"][7]).features
    model = load_exported(single)
    scaled = (raw.numpy() - np.float32(training["scaler"]["offset"])) * np.float32(training["scaler"]["scale"])
    logits = model.trainings[0].model(torch.from_numpy(scaled)).logits.detach().double().numpy()
    for task, told in training["tasks"].items():
        own = as_json_says(training, task, logits[slice(*told["logits"])])
        assert dict(zip(told["answers"], own, strict=True)) == pytest.approx(model.answers(raw)[task], rel=1e-5)
        assert told["to_answers"]


def test_every_number_has_a_source(run: NotebookRun, single: Path) -> None:
    facts = json.loads((single / "model.json").read_text())
    trial = run.model("m4", fold=1).trial
    told = facts["trainings"][0]
    assert told["sha256"] == trial.info["payload_sha256"]["model.safetensors"]
    assert (told["trial"], told["fold"], told["seed"]) == (trial.id, 1, 42)
    assert facts["cohort"]["fingerprint"] == trial.info["fingerprint"]
    assert facts["cohort"]["split_sha256"] == trial.info["split_sha256"]
    assert facts["model"]["arguments"] == trial.info["hyperparameters"]
    assert facts["versions"]["exported_with"]["torch"] == torch.__version__
    assert facts["thresholds"]["os"]["patient"] == trial.info["training_risk"]["os"]["median"]
    assert "/" not in facts["cohort"]["name"]
    assert str(run.path.parent) not in (single / "model.json").read_text()


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    facts = json.loads((folder / "model.json").read_text())
    change(facts)
    (folder / "model.json").write_text(json.dumps(facts))


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_tampered_weights_are_refused(single: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path / "copy")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"model\.safetensors has another checksum than model\.json says"):
        load_exported(folder)


def test_a_missing_weight_file_is_named(ensemble: Path, tmp_path: Path) -> None:
    folder = copied(ensemble, tmp_path / "copy")
    (folder / "fold1-seed42.safetensors").unlink()
    with pytest.raises(StoreError, match=r"fold1-seed42\.safetensors cannot be read \(No such file"):
        load_exported(folder)


def test_what_is_no_weights_is_never_unpickled(single: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path / "copy")
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")  # a pickle inside
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rewritten(folder, lambda facts: facts["trainings"][0].update(sha256=digest))
    with pytest.raises(StoreError, match="holds no weights"):
        load_exported(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(format=9), "written by a newer milbench"),
        (lambda f: f.pop("trainings"), "lacks trainings"),
        (lambda f: f.update(trainings=[]), "it has no training"),
        (lambda f: f["trainings"].append(f["trainings"][0]), "does not say how its trainings become one answer"),
        (lambda f: f["trainings"][0].update(weights="../x"), r"expected a name without slash"),
        (lambda f: f["trainings"][0]["tasks"].pop("A"), "answers other tasks than the model"),
        (lambda f: f["trainings"][0]["tasks"]["A"].update(logits=[1]), "where a task's logits begin and end"),
        (lambda f: f["trainings"][0]["tasks"]["A"]["endpoint"].update(kind="odd"), "expected binary"),
        (lambda f: f["trainings"][0]["scaler"].update(offset=[0.0]), "scaler of 1 and 6 columns; expected 6"),
        (lambda f: f["model"].update(version=7), "version 7 of m4; this milbench has version 1"),
        (lambda f: f["model"]["arguments"].update(hidden=16), "not those of the model 'm4' as it is now"),
        (lambda f: f["model"]["arguments"].update(odd=16), "not those of the model 'm4' as it is now"),
    ],
)
def test_a_model_json_that_was_changed_is_one_message(
    single: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = copied(single, tmp_path / "copy")
    rewritten(folder, change)
    with pytest.raises(StoreError, match=message):
        load_exported(folder)


def test_a_model_that_is_not_registered_is_named(single: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path / "copy")
    rewritten(folder, lambda facts: facts["model"].update(name="m5"))
    with pytest.raises(UsageError, match=re.escape("unknown model 'm5'. Did you mean 'm4'?") + r".*plugins=\["):
        load_exported(folder)


PLUGIN = """
from milbench.models import register_model
from milbench_baselines.m4 import M4

@register_model("mine", title="Mine", tasks="multi")
class Mine(M4):
    pass
"""


def test_a_model_of_your_own_is_loaded_with_its_file(
    run: NotebookRun, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "REGISTERED", dict(models.REGISTERED))
    folder = copied(single, tmp_path / "copy")
    rewritten(folder, lambda facts: facts["model"].update(name="mine"))
    (tmp_path / "mine.py").write_text(PLUGIN)
    features = run.cohort().load(run.cohort().slides["slide_id"][0]).features
    assert load_exported(folder, plugins=[tmp_path / "mine.py"]).answers(features) == load_exported(single).answers(
        features
    )


def test_a_file_in_the_folder_is_never_imported(single: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path / "copy")
    for name in ("m4.py", "mine.py", "__init__.py", "conftest.py"):
        (folder / name).write_text("raise SystemExit('imported')")
    load_exported(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"format": "1"}', "[" * 100_000])
def test_what_is_no_json_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(StoreError, match=r"model\.json is damaged"):
        load_exported(tmp_path)


def test_a_folder_without_export_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no exported model \(model\.json is missing\)"):
        load_exported(tmp_path / "nothing")
