"""A model takes a test by the trainer of a run, with one recipe, and a failure is a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from places import ROOT

from milbench.probes.catalogue import PROBES
from milbench.probes.probe import Probe
from milbench.probes.run import contract_of, left_out_of, verdicts_of
from milbench.probes.training import bags_of, recipe_of, reduced_arguments, score_of
from milbench.registry import load_models

REFERENCES = ROOT / "tests" / "support" / "probe_references.py"
MODELS = load_models([REFERENCES])


def tiny(name: str) -> Probe:
    """The test with few bags and epochs, for what does not depend on learning it."""
    return replace(PROBES[name], sizes=(16, 8, 16), epochs=2)


def test_arguments_are_reduced_where_the_model_has_them() -> None:
    assert reduced_arguments(MODELS["amil"]) == {"hidden": 32, "attention": 16}
    assert reduced_arguments(MODELS["m4"])["experts"] == 2
    assert reduced_arguments(MODELS["sums"]) == {}  # its width is 32 by default


def test_bags_reach_the_trainer_as_they_were_made() -> None:
    part = tiny("noise").part("train", 0)
    bags = bags_of(part, None)
    assert torch.equal(bags.features[3], torch.from_numpy(part.bags[3].features))
    assert torch.equal(bags.targets, torch.from_numpy(part.labels).float())
    assert bool((bags.known == 1).all())


def test_the_recipe_is_the_same_for_every_model_and_validation_loss_chooses() -> None:
    recipe = recipe_of(PROBES["rare"], 5e-3)
    assert (recipe.select_by, recipe.lr, recipe.bags_per_step, recipe.epochs) == ("val_loss", 5e-3, 1, 12)


@pytest.mark.parametrize("model", ["amil", "reads_order"])
def test_one_seed_gives_the_same_bits_and_another_gives_others(model: str) -> None:
    first, again, other = (score_of(MODELS[model], tiny("presence"), seed) for seed in (0, 0, 1))
    assert first._replace(seconds=0) == again._replace(seconds=0)
    assert first.reason == ""
    assert first.auroc != other.auroc


def test_a_multi_task_model_takes_one_task_and_two() -> None:
    assert [score_of(MODELS["m4"], tiny(name), 0).reason for name in ("share", "tasks")] == ["", ""]
    assert left_out_of(MODELS["m4"], list(PROBES)) == {}
    assert left_out_of(MODELS["amil"], list(PROBES)) == {"tasks": "for multi-task models"}


def test_a_model_that_would_take_hours_on_large_bags_leaves_that_test_out() -> None:
    left = left_out_of(MODELS["barspoon"], list(PROBES))
    assert left == {"rare": "a bag of 2,000 patches costs 554 million multiply-adds"}


def test_a_model_that_raises_gets_its_reason_and_no_score() -> None:
    score = score_of(MODELS["raises_in_training"], tiny("order"), 0)
    assert "too large for me" in score.reason
    assert score.auroc != score.auroc


def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    score_of(MODELS["sums"], tiny("order"), 0)
    assert torch.get_num_threads() == before


def test_the_contract_of_own_and_of_other_models_is_tried() -> None:
    assert contract_of(MODELS["amil"], []) == []
    assert contract_of(MODELS["sums"], [REFERENCES]) == []
    breakers = ROOT / "tests" / "support" / "rule_breakers.py"
    found = contract_of(load_models([breakers])["normalises"], [breakers])
    assert any(finding.is_final and "buffer" in finding.what for finding in found)


@pytest.mark.slow
def test_scores_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    one, two = (
        verdicts_of(MODELS["sums"], ["order", "noise"], seeds=2, workers=workers, plugins=[REFERENCES])
        for workers in (1, 2)
    )
    assert [verdict._replace(seconds=0) for verdict in one] == [verdict._replace(seconds=0) for verdict in two]


@pytest.mark.slow
def test_a_model_takes_all_tests() -> None:
    names = [name for name in PROBES if name not in left_out_of(MODELS["mean_pooling"], list(PROBES))]
    verdicts = {v.test: v for v in verdicts_of(MODELS["mean_pooling"], names, seeds=1, workers=1)}
    assert list(verdicts) == names
    assert verdicts["share"].verdict == "pass"
    assert verdicts["frequency"].verdict == "cheats"
    assert verdicts["neighbours"].verdict == "fails"
