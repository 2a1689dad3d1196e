"""Every test is passed by one simple model and not by another, so that a verdict speaks of the model."""

import pytest
from places import ROOT

from milbench.probes.catalogue import PROBES
from milbench.probes.training import score_of
from milbench.probes.verdict import verdict_of
from milbench.registry import load_models

MODELS = load_models([ROOT / "tests" / "support" / "probe_references.py"])

PASSES = {
    "presence": "max_pooling", "both": "highest", "frequency": "highest", "count": "sums", "share": "mean_pooling",
    "neighbours": "reads_pairs", "order": "highest", "rare": "highest", "size": "max_pooling", "noise": "highest",
    "tasks": "highest_twice",
}  # fmt: skip
DOES_NOT = {
    "presence": ("highest", "cheats"), "both": ("mean_pooling", "fails"), "frequency": ("mean_pooling", "cheats"),
    "count": ("mean_pooling", "fails"), "share": ("max_pooling", "fails"), "neighbours": ("highest", "fails"),
    "order": ("reads_order", "cheats"), "rare": ("mean_pooling", "fails"), "size": ("mean_pooling", "fails"),
    "noise": ("reads_pairs", "fails"), "tasks": ("one_for_all", "fails"),
}  # fmt: skip
FAST = ("presence", "order")


def word_of(model: str, test: str) -> str:
    return verdict_of(PROBES[test], [score_of(MODELS[model], PROBES[test], 0)]).verdict


def marked(names: object) -> list[object]:
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


def test_every_test_has_both() -> None:
    assert set(PASSES) == set(DOES_NOT) == set(PROBES)


@pytest.mark.parametrize("test", marked(PASSES))
def test_one_simple_model_passes(test: str) -> None:
    assert word_of(PASSES[test], test) == "pass"


@pytest.mark.parametrize("test", marked(DOES_NOT))
def test_another_simple_model_does_not(test: str) -> None:
    model, word = DOES_NOT[test]
    assert word_of(model, test) == word
