"""Fold stacks through the command line: same results, whole stacks, same bytes whatever befalls them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands_for_tests import FAST, Milbench
from predictions_for_tests import predictions
from studies_for_tests import n_done, results, start, wait_for

from milbench.runs import passes
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare

WORDS = (
    "run",
    "--models",
    "shared_bottom_amil",
    "mmoe_amil",
    "--folds",
    "0-4",
    "--workers",
    "1",
    *FAST,
    "trainer.bags_per_step=4",
)


def stacks(run: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for path in run.glob("trials/**/trial.json"):
        info = json.loads(path.read_text())
        found.setdefault(info["model"], set()).add(info["stack"])
    return found


def on_digits(stack: str, trainer: dict) -> Benchmark:
    models = ["mmoe_amil", "amil"]
    return prepare(
        make_config(None, [], {"models": models, "trainer": trainer, "engine": {"stack": stack, "workers": 1}})
    )


@pytest.mark.parametrize(
    ("stack", "trainer", "sizes"),
    [
        ("auto", {}, [1] * 3),
        ("on", {}, [3]),
        ("off", {}, [1] * 3),
        ("on", {"bags_per_step": 1}, [3]),
    ],
)
def test_folds_of_a_model_of_several_tasks_are_one_stack_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: str, trainer: dict, sizes: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = on_digits(stack, trainer)
    (entry,) = asked.entries
    found = passes.all_stacks(asked, entry, asked.trials, passes.pool_settings(asked))
    assert [len(each) for each in found if each[0].model == "mmoe_amil"] == sizes
    assert sum(map(len, found)) == len(asked.trials), "each trial is in one stack"
    assert {len({trial.fold for trial in each}) for each in found if each[0].model == "amil"} == {1}


def test_what_may_share_a_stack_anyway_is_not_asked_about_its_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []

    def pays(*_: object, n_members: int, are_equal: bool, on_gpu: bool, **__: object) -> bool:
        asked.append(n_members)
        assert are_equal
        assert not on_gpu
        return True

    monkeypatch.setattr(passes, "fold_stacking_pays", pays)
    digits = on_digits("auto", {})
    (entry,) = digits.entries
    found = passes.all_stacks(digits, entry, digits.trials, passes.pool_settings(digits))
    assert asked == [3], "the folds of mmoe_amil; the tasks of amil are stacks already"
    assert sorted(len(each) for each in found) == [3, 10, 10, 10]


@pytest.mark.slow
def test_folds_agree_with_trials_alone_and_say_how_they_were_trained(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "--cohort", str(cohort_folder))
    for stack in ("on", "off"):
        result = milbench_here(*words, "--run", stack, "--stack", stack)
        assert result.returncode == 0, result.stdout + result.stderr
    assert stacks(tmp_path / "on") == {"shared_bottom_amil": {5}, "mmoe_amil": {5}}
    assert stacks(tmp_path / "off") == {"shared_bottom_amil": {1}, "mmoe_amil": {1}}
    on, off = predictions(tmp_path / "on"), predictions(tmp_path / "off")
    pd.testing.assert_frame_equal(on.drop(columns="probability"), off.drop(columns="probability"))
    np.testing.assert_allclose(on["probability"], off["probability"], atol=1e-3)


@pytest.mark.slow
def test_a_model_that_cannot_draw_for_several_folds_is_trained_fold_by_fold(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    """`tiny_multi` has torch's own dropout."""
    words = ("run", "--models", "tiny_multi", "--folds", "0-2", "--workers", "1", *FAST, "--cohort", str(cohort_folder))
    for stack in ("on", "off"):
        assert milbench_here(*words, "--run", stack, "--stack", stack).returncode == 0
    assert stacks(tmp_path / "on") == {"tiny_multi": {1}}
    assert results(tmp_path / "on") == results(tmp_path / "off")


@pytest.mark.slow
def test_folds_that_are_missing_are_trained_with_those_that_are_there(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    """As after a kill while results were being written: the bytes are those of the run that was not disturbed."""
    words = (*WORDS, "--cohort", str(cohort_folder), "--stack", "on", "--run", "out")
    assert milbench_here(*words).returncode == 0
    whole = results(tmp_path / "out")
    for path in sorted((tmp_path / "out").glob("trials/*/mmoe_amil/*/*"))[1:4]:
        shutil.rmtree(path)
    left = n_done(tmp_path / "out")
    assert left == 7
    assert milbench_here(*words).returncode == 0
    assert results(tmp_path / "out") == whole


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_bytes(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = (
        *WORDS,
        "trainer.epochs=20",
        "engine.checkpoint_seconds=0",
        "--cohort",
        str(cohort_folder),
        "--stack",
        "on",
    )
    assert milbench_here(*words, "--run", "whole").returncode == 0
    process = start(tmp_path, *words, "--run", "out")
    wait_for(lambda: list((tmp_path / "out").glob("checkpoints/*.safetensors")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / "out").glob("checkpoints/*.safetensors"))) == 1, "one for all folds"
    assert n_done(tmp_path / "out") < 10
    assert milbench_here(*words, "--run", "out").returncode == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert not list((tmp_path / "out" / "checkpoints").iterdir()), "what is done needs no checkpoint"
