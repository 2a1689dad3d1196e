"""Each rule of docs/models.md that a model can break is seen on three small bags."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import Tiny, TinyMulti
from outputs_for_tests import EVERY, MIXED
from rule_breakers import (
    Bare,
    BeginsAsNan,
    Branches,
    ChangesFolder,
    Counts,
    DeclaresNoLayout,
    ForgetsNeighbours,
    Idles,
    KeepsAll,
    MapsTakeNoLayout,
    Normalises,
    OddNeighbours,
    OneTooMany,
    OwnChance,
    OwnStart,
    SetsDtype,
    TakesNoLayout,
    TwoLogits,
    WantsTwo,
    WritesBag,
    WritesLayout,
)
from stacks_for_tests import OURS

from milbench.endpoints.outputs import Outputs
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.training.contract import BrokenRule, findings_of, place_of, refuse_impossible_arguments

FINAL: list[tuple[type[MILModel], str]] = [
    (Normalises, r"changes its buffer 'norm\.\w+' as it runs.*LayerNorm"),
    (OwnChance, "something else of the same bag each time"),
    (Counts, "something else of the same bag each time"),
    (OwnStart, "start is another each time the model is built from one seed"),
    (BeginsAsNan, "its start begins as NaN, so that it can learn nothing"),
    (WritesBag, r"writes into the bag, .*\(features = features\.clone\(\)\)"),
    (WritesLayout, r"writes into layout\.coords of the bag, .*\(coords = layout\.coords\.clone\(\)\)"),
    (OddNeighbours, r"its n_neighbours is -3\. Set self\.n_neighbours to a whole number"),
    (TakesNoLayout, r"forward\(features, layout\), which it cannot take: .* or needs_coords=False in @register_model"),
    (DeclaresNoLayout, r"forward\(features\), which it cannot take: missing .* 'layout'\. .* or needs_coords=True"),
    (MapsTakeNoLayout, r"its attention_maps is called as attention_maps\(features, layout\), which it cannot take"),
    (TwoLogits, r"logits have shape \[2\]\. Return 1 logit: one per task\. .*n_outputs"),
    (Bare, r"returns a Tensor\. Return BagOutput"),
    (SetsDtype, r"torch's default dtype \(torch\.float32 -> torch\.float64\)"),
    (ChangesFolder, "changes the working folder"),
]

WARNED: list[tuple[type[MILModel], str]] = [
    (Branches, r"cannot go through it together: .*branches on the value of a tensor \(rule_breakers\.py, line \d+\)"),
    (Idles, r"unused\.weight, unused\.bias never get a gradient"),
    (WantsTwo, r"raises on a bag of 1 patch: IndexError: .* \(rule_breakers\.py, line \d+\)"),
]


@pytest.mark.parametrize(("model", "what"), FINAL, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_that_no_training_survives_is_a_final_finding(model: type[MILModel], what: str) -> None:
    folder = Path.cwd()
    (finding,) = findings_of(model, 6, 1, {})
    assert finding.is_final
    assert re.search(what, finding.what)
    assert torch.get_default_dtype() == torch.float32
    assert Path.cwd() == folder


def test_a_model_that_forgets_how_many_neighbours_it_wants_is_told() -> None:
    found = findings_of(ForgetsNeighbours, 6, 1, {})
    assert [finding.is_final for finding in found[:3]] == [False] * 3
    assert found[2].what == (
        "its logits are NaN on a bag of 7 patches. It gets no neighbours: set self.n_neighbours in __init__"
    )


@pytest.mark.parametrize("nearest", [2.5, True, None, "8"])
def test_a_number_of_neighbours_is_a_whole_number(nearest: object) -> None:
    (finding,) = findings_of(OddNeighbours, 6, 1, {"nearest": nearest})
    assert finding.is_final
    assert f"its n_neighbours is {nearest!r} with" in finding.what


@pytest.mark.parametrize("nearest", [0, np.int64(3), 10**9])
def test_no_neighbours_and_more_than_there_are_patches_are_numbers_too(nearest: int) -> None:
    assert findings_of(OddNeighbours, 6, 1, {"nearest": nearest}) == []


@pytest.mark.parametrize(("model", "what"), WARNED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_depends_on_the_bags_is_a_warning(model: type[MILModel], what: str) -> None:
    (finding,) = findings_of(model, 6, 1, {})
    assert not finding.is_final
    assert re.search(what, finding.what)


@pytest.mark.parametrize("model", [Tiny, KeepsAll])
def test_a_model_that_keeps_the_rules_has_no_findings(model: type[MILModel]) -> None:
    assert findings_of(model, 6, 1, {}) == []
    assert findings_of(TinyMulti, 6, 3, {"hidden": 4}) == []


@pytest.mark.parametrize("name", OURS)
def test_every_baseline_keeps_the_rules(name: str) -> None:
    model = load_models()[name]
    assert findings_of(model, 16, 3 if model.info.tasks == "multi" else 1, {}) == []


@pytest.mark.parametrize(
    ("hyperparameters", "what"),
    [({"hidden": -3}, "cannot be built with hidden=-3"), ({"hidden": 0}, r"shape is \[0, 6\] with hidden=0")],
)
def test_arguments_that_no_model_can_have_are_refused_without_numbers_in_the_weights(
    hyperparameters: dict[str, int], what: str
) -> None:
    with pytest.raises(BrokenRule, match=what):
        refuse_impossible_arguments(KeepsAll, 6, 1, hyperparameters)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("classes", "4 logits: one per class of site"),
        ("thresholds", "2 logits: one per threshold between the grades of site"),
        ("grades", "3 logits: one per grade of site"),
        ("bins", "4 logits: one per time bin of site"),
        ("value", "1 logit: one for site"),
    ],
)
def test_wrong_logits_are_told_how_many_there_must_be_and_why(kind: str, wanted: str) -> None:
    (finding,) = findings_of(OneTooMany, 6, EVERY[kind], {}, tasks=["site"])
    assert finding.is_final
    assert f"its logits have shape [{int(EVERY[kind]) + 1}]. Return {wanted}. " in finding.what


def test_of_several_tasks_each_says_how_many_logits_it_has() -> None:
    (finding,) = findings_of(OneTooMany, 6, Outputs(MIXED.endpoints[:3]), {})
    assert "6 logits: one for task 1 (1), one per class of task 2 (4), one for task 3 (1)" in finding.what


@pytest.mark.parametrize("kind", EVERY)
def test_a_plain_model_keeps_the_rules_with_tasks_of_any_kind(kind: str) -> None:
    assert findings_of(KeepsAll, 6, EVERY[kind], {}) == []


def test_the_place_of_a_model_is_its_file_and_line() -> None:
    assert place_of(KeepsAll).split(", line ")[0].endswith("rule_breakers.py")
