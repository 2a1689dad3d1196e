"""Checkpoints: a training that goes on from one ends with the same bits; any other file is as good as none."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_for_tests import OF_SAMPLING, RECIPES, bits, stopped_after
from commands_for_tests import Milbench
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE, learner_of
from safetensors import SafetensorError, safe_open
from stacks_for_tests import (
    N_MEMBERS,
    SLIDES,
    InMemory,
    learner,
    model_of,
    of_own_rates,
    trained,
)
from studies_for_tests import n_done, results, run_words, start, wait_for
from trial_for_tests import TRIAL

from milbench.datasets.source import CohortSource
from milbench.engines.checkpoint import load_checkpoint, save_checkpoint
from milbench.engines.prepared_group import PreparedGroup
from milbench.training.trainer import train
from milbench.trials.job import Job, JobGroup
from milbench.trials.plan import Trial
from milbench.trials.recipe import Recipe


@pytest.mark.parametrize("name", ["amil", "dtfd_mil", "m4"])
@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, name: str, members: range, recipe: Recipe) -> None:
    start_model, path = model_of(name), tmp_path / "checkpoint.safetensors"
    whole = learner(members, start_model, recipe)
    trained(whole)
    stopped_after(learner(members, start_model, recipe), 3, path, "mine")
    resumed = learner(members, start_model, recipe)
    torch.randn(100)  # whatever else the process draws
    assert load_checkpoint(resumed, path, "mine")
    assert resumed.epoch == 3
    trained(resumed)
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize("recipe", OF_SAMPLING.values(), ids=list(OF_SAMPLING))
def test_a_training_with_draws_or_warm_up_is_resumed_with_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    path, members = tmp_path / "checkpoint.safetensors", [0] if recipe.sampler == "balanced" else range(N_MEMBERS)
    (whole,) = trained(learner(members, model_of("amil"), recipe))
    (usual,) = trained(
        learner(members, model_of("amil"), Recipe(lr=0.02, epochs=6, bags_per_step=recipe.bags_per_step))
    )
    assert bits(whole) != bits(usual), "the setting does something"
    stopped_after(learner(members, model_of("amil"), recipe), 3, path, "mine")
    resumed = learner(members, model_of("amil"), recipe)
    assert load_checkpoint(resumed, path, "mine")
    trained(resumed)
    assert bits(resumed) == bits(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "n_epochs"),
    [
        (Recipe(epochs=6, bags_per_step=2, warmup=4.5), 3),
        (Recipe(epochs=6, optimizer="adamw", clip_norm=0.05), 3),
        (Recipe(epochs=8, patience=1, select_by="val_loss"), 6),
    ],
    ids=["warm-up", "adamw", "out of patience"],
)
def test_a_stack_of_trials_with_rates_of_their_own_is_resumed_with_the_same_bits(
    tmp_path: Path, recipe: Recipe, n_epochs: int
) -> None:
    path, start_model, recipes = tmp_path / "checkpoint.safetensors", model_of("amil"), of_own_rates(recipe)
    whole, stopped, resumed = (learner(range(N_MEMBERS), start_model, recipes[0], recipes=recipes) for _ in range(3))
    trained(whole)
    stopped_after(stopped, n_epochs, path, "mine")
    assert load_checkpoint(resumed, path, "mine")
    assert (len(resumed.still_learning) < N_MEMBERS) == (recipe.patience is not None), "a trial must have left"
    trained(resumed)
    assert bits(resumed) == bits(whole)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["uncertainty", "dwa"])
@pytest.mark.parametrize("optimizer", ["adam", "lookahead_radam"])
@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
def test_weights_of_tasks_that_move_are_resumed_with_the_same_bits(
    tmp_path: Path, members: range, optimizer: str, rule: str
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    recipe = Recipe(lr=0.02, epochs=6, bags_per_step=4, optimizer=optimizer, task_weights=rule)
    endpoints = (BINARY, CLASSES, COX)
    (whole,) = trained(learner_of(endpoints, members, recipe))
    stopped_after(learner_of(endpoints, members, recipe), 3, path, "mine")
    resumed = learner_of(endpoints, members, recipe)
    assert load_checkpoint(resumed, path, "mine")
    trained(resumed)
    assert bits(resumed) == bits(whole)
    assert resumed.task_weights.factors.tolist() == whole.task_weights.factors.tolist()
    assert len(resumed.progress[0].task_weights) == 6
    assert resumed.progress[0].cox_steps_without_event == whole.progress[0].cox_steps_without_event


def test_weights_of_tasks_are_resumed_after_trials_have_left(tmp_path: Path) -> None:
    path, recipe = (
        tmp_path / "checkpoint.safetensors",
        Recipe(lr=0.02, epochs=8, patience=1, task_weights="uncertainty"),
    )
    endpoints = (BINARY, SCORE)
    (whole,) = trained(learner_of(endpoints, range(N_MEMBERS), recipe))
    n_left = [len(progress.history) for progress in whole.progress]
    assert min(n_left) < max(n_left), "a trial must have left before the others"
    stopped_after(learner_of(endpoints, range(N_MEMBERS), recipe), min(n_left), path, "mine")
    resumed = learner_of(endpoints, range(N_MEMBERS), recipe)
    assert load_checkpoint(resumed, path, "mine")
    assert len(resumed.still_learning) < N_MEMBERS
    trained(resumed)
    assert bits(resumed) == bits(whole)


def test_a_resumed_stack_reads_only_the_epochs_that_are_left(tmp_path: Path) -> None:
    path, recipe = tmp_path / "checkpoint.safetensors", RECIPES["adam"]
    stopped_after(learner([0, 1], model_of("amil"), recipe), 4, path, "mine")
    resumed, features = learner([0, 1], model_of("amil"), recipe), InMemory()
    load_checkpoint(resumed, path, "mine")
    trained(resumed, features=features)
    assert len(features.served) == 2 * len(SLIDES)


@pytest.mark.parametrize("harm", ["another identity", "cut short", "no such file", "not a checkpoint"])
def test_a_checkpoint_that_is_not_its_own_or_damaged_is_as_good_as_none(tmp_path: Path, harm: str) -> None:
    path, recipe = tmp_path / "checkpoint.safetensors", RECIPES["adam"]
    stopped_after(learner([0], model_of("amil"), recipe), 2, path, "mine")
    if harm == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "no such file":
        path.unlink()
    elif harm == "not a checkpoint":
        path.write_bytes(b"nonsense")
    fresh = learner([0], model_of("amil"), recipe)
    before = bits(fresh)
    assert not load_checkpoint(fresh, path, "yours" if harm == "another identity" else "mine")
    assert (fresh.epoch, bits(fresh)) == (0, before)


@pytest.mark.slow
def test_a_run_killed_between_two_epochs_goes_on_from_there_to_the_same_bytes(
    study: Path,
    tmp_path: Path,
    milbench_here: Milbench,
) -> None:
    words = run_words(study, "--workers", "1", "--set", "engine.checkpoint_seconds=0", "trainer.epochs=6")
    assert milbench_here(*[word if word != "out" else "whole" for word in words]).returncode == 0
    process = start(tmp_path, *words)
    wait_for(lambda: list((tmp_path / "out").glob("checkpoints/*.safetensors")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list((tmp_path / "out").glob("checkpoints/*.safetensors")), "the kill came too late"
    done = n_done(tmp_path / "out")
    assert milbench_here(*words).returncode == 0
    assert n_done(tmp_path / "out") > done
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert not list((tmp_path / "out" / "checkpoints").iterdir()), "what is done needs no checkpoint"


def test_a_finished_stack_that_had_lost_members_is_restored(tmp_path: Path) -> None:
    """Killed while its predictions are made: what it last stepped with is smaller than what it started with."""
    whole, path = learner(range(N_MEMBERS), model_of("amil"), RECIPES["adam"]), tmp_path / "checkpoint.safetensors"
    losing = iter([lambda: whole.shrink_to([0, 2])])

    def lose_one() -> None:
        next(losing, lambda: None)()

    train([whole], SLIDES, InMemory(), seed=7, after_epoch=lose_one)
    assert whole.still_learning == []
    assert whole.weights.n_models == N_MEMBERS - 1
    save_checkpoint(whole, path, "mine")
    resumed = learner(range(N_MEMBERS), model_of("amil"), RECIPES["adam"])
    assert load_checkpoint(resumed, path, "mine")
    assert resumed.is_done
    assert bits(resumed) == bits(whole)


def test_a_checkpoint_of_another_architecture_is_as_good_as_none(tmp_path: Path) -> None:
    """The same names may be built from other files than a model's own, whose hash nobody takes."""
    path, recipe = tmp_path / "checkpoint.safetensors", RECIPES["adam"]
    stopped_after(learner([0], model_of("amil"), recipe), 2, path, "mine")
    assert load_checkpoint(learner([0], model_of("amil"), recipe), path, "mine")
    for other in (model_of("amil", hidden=8), model_of("max_pooling")):
        fresh = learner([0], other, recipe)
        assert not load_checkpoint(fresh, path, "mine")
        assert fresh.epoch == 0


def test_the_keys_of_a_checkpoint_stay_so_that_one_of_an_earlier_release_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    stopped_after(learner([0, 1], model_of("amil"), RECIPES["adam"]), 2, path, "mine")
    with safe_open(path, framework="pt") as file:
        state, tensors = json.loads(file.metadata()["state"]), set(file.keys())
    assert state.keys() == {
        "format", "identity", "epoch", "alive", "members", "seconds", "step_seconds", "at_once", "must_recompute", "shortage",
    }  # fmt: skip
    assert (state["format"], state["epoch"], state["alive"], state["at_once"]) == (1, 2, [0, 1], 2)
    assert [member.keys() for member in state["members"]] == 2 * [{"history", "score", "epoch", "since", "failure"}]
    assert {name.split("/")[0] for name in tensors} == {"now", "best", "random", "optimizer"}


def test_a_checkpoint_knows_the_code_that_wrote_it(tmp_path: Path) -> None:
    def identity(trial: Trial) -> str:
        job = Job(tmp_path, trial, CohortSource(), device="cpu")
        return PreparedGroup(JobGroup((job,)), (trial,), None, None, 0.0).identity  # type: ignore[arg-type]  # neither is asked

    assert identity(TRIAL) == identity(replace(TRIAL))
    assert identity(TRIAL) != identity(replace(TRIAL, source_sha256="another"))
    assert TRIAL.key == replace(TRIAL, source_sha256="another").key, "what is finished stays"


def test_a_full_disk_is_an_oserror_whatever_library_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("milbench.formats.tensor_file.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(learner([0], model_of("amil"), RECIPES["adam"]), tmp_path / "c.safetensors", "mine")
    assert not list(tmp_path.iterdir())
