"""What model.json says of answers, thresholds and features."""

from pathlib import Path

import pytest
from exports_for_tests import DRAWS, asked_for, run_for_exports

from milbench.cohorts.scaling import MODES
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import LOSSES, FittedEndpoint
from milbench.export import facts as module
from milbench.export.chosen import Chosen
from milbench.export.facts import COMBINED, FORMULA, facts_of, stored_sha256, weight_files
from milbench.export.scores import scores_of
from milbench.external.thresholds import binary_thresholds, risk_threshold
from milbench.formats import SlideHeader
from milbench.runs.notebook import NotebookRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return run_for_exports(tmp_path_factory)


def facts(chosen: Chosen) -> dict:
    models = chosen.source.models(chosen.trials)
    digests = {name: stored_sha256(trial) for name, trial in weight_files(chosen).items()}
    return facts_of(chosen, models, scores_of(chosen, DRAWS), digests)


@pytest.mark.parametrize(("kind", "loss"), [(kind, loss) for kind, losses in LOSSES.items() for loss in losses])
def test_every_kind_and_loss_says_how_logits_become_answers(kind: str, loss: str) -> None:
    classes = ("G1", "G2", "G3") if kind in ("multiclass", "ordinal") else ()
    fitted = FittedEndpoint(Endpoint(kind, classes), loss)
    told = module._to_answers(fitted)
    assert fitted.answers[0].split(" of ")[0] in told
    assert fitted.answers[0].split(" of ")[0] in COMBINED[kind]


def test_a_score_that_was_transformed_is_transformed_back() -> None:
    fitted = FittedEndpoint(Endpoint("regression", transform="log1p"), "huber")
    assert module._to_answers(fitted) == "value = exp(z[0] * scale + center) - 1"


def test_every_scaling_has_a_formula() -> None:
    assert set(FORMULA) == set(MODES)


def test_thresholds_of_an_ensemble_are_those_of_all_validation_sides(run: NotebookRun) -> None:
    chosen = asked_for(run, "m4")
    told = facts(chosen)["thresholds"]
    assert set(told) == {"A", "os"}
    for level in ("slide", "patient"):
        assert told["A"][level] == binary_thresholds(chosen.trials, "A", level).of_ensemble
    assert told["os"]["patient"] == risk_threshold(chosen.trials, "os").of_ensemble


def test_the_threshold_of_a_fold_is_that_of_its_own_validation_side(run: NotebookRun) -> None:
    chosen = asked_for(run, "mean_pooling", task="A", fold=1)
    assert facts(chosen)["thresholds"]["A"]["slide"] == binary_thresholds(chosen.trials, "A", "slide").of_folds


def headers_of(*encoders: str) -> dict[str, SlideHeader]:
    return {name: SlideHeader(5, 6, "float32", "level0", 256.0, name, 20.0) for name in encoders}


def test_the_encoder_is_told_if_all_files_tell_the_same(run: NotebookRun, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = asked_for(run, "mean_pooling", task="A", fold=0)
    monkeypatch.setattr(module, "headers", lambda *_: headers_of("uni_v1"))
    told = facts(chosen)["input"]
    assert (told["encoder"], told["magnification"]) == ("uni_v1", 20.0)
    assert (told["patch_size"], told["patch_size_unit"]) == (256.0, "level0")
    monkeypatch.setattr(module, "headers", lambda *_: headers_of("uni_v1", "gigapath"))
    told = facts(chosen)["input"]
    assert (told["encoder"], told["magnification"]) == (None, 20.0)


def test_the_ensemble_s_files_are_named_by_fold_and_seed(run: NotebookRun) -> None:
    assert list(weight_files(asked_for(run, "m4"))) == ["fold0-seed42.safetensors", "fold1-seed42.safetensors"]
    assert list(weight_files(asked_for(run, "m4", fold=1))) == ["model.safetensors"]
    assert asked_for(run, "m4", fold=1).folder == "m4-all-fold1-seed42"
    assert Path(asked_for(run, "mean_pooling", task="A").folder).name == "mean_pooling-A-ensemble"
