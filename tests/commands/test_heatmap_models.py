"""Which models of a run `milbench heatmap` looks with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from models_for_tests import THIS_FILE
from weighted_runs_for_tests import slide_name, train, write_cohort

Heatmap = Callable[..., tuple[int, str, str]]
SLIDE = slide_name(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heatmap-models")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return train(folder, write_cohort(folder / "truth"))


def test_a_model_without_a_result_is_left_out_by_name_unless_it_was_asked_for(
    run: Path, heatmap: Heatmap, tmp_path: Path
) -> None:
    copied = tmp_path / "runs" / "truth"
    shutil.copytree(run, copied)
    gone = "amil"
    for path in (copied / "trials").glob(f"*/{gone}"):
        shutil.rmtree(path)
    code, printed, errors = heatmap(copied, "--slide", SLIDE)
    assert (code, errors) == (0, "")
    assert f"left out: {gone}: " in printed
    code, _, errors = heatmap(copied, "--slide", SLIDE, "--models", gone)
    assert code == 2
    assert "is not done, failed or is damaged" in errors


def test_a_third_partys_model_without_attention_is_left_out_or_refused_by_name(folder: Path, heatmap: Heatmap) -> None:
    run = train(folder, write_cohort(folder / "plugin"), "--plugin", str(THIS_FILE), models=("amil", "tiny"))
    code, printed, _ = heatmap(run, "--slide", SLIDE)
    assert code == 0
    assert "left out: tiny has no attention to draw" in printed
    code, _, errors = heatmap(run, "--slide", SLIDE, "--models", "tiny")
    assert code == 2
    assert "Tiny has no attention to draw: its forward returns none" in errors


def test_a_model_that_a_run_has_in_one_fold_only_is_evaluated_there(folder: Path, heatmap: Heatmap) -> None:
    cohort = write_cohort(folder / "uneven")
    run = train(folder, cohort, "--folds", "0", models=("amil",))
    train(folder, cohort, "--folds", "1", "--run", str(run), models=("amil", "dsmil"))
    code, printed, errors = heatmap(run, "--evaluate")
    assert (code, errors) == (0, "")
    assert "AMIL" in printed
    assert "DSMIL" in printed
    code, _, errors = heatmap(run, "--evaluate", "--fold", "7")
    assert code == 2
    assert "unknown fold" in errors
