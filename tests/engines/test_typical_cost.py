"""What a model takes for one large bag: counted, the same every time, and never by a large step on the CPU."""

import pytest
import torch
from models_for_tests import THIS_FILE, Explodes, Killed, Tiny
from torch import Tensor, nn

from milbench.engines import cost
from milbench.engines.typical_cost import FEATURES, PATCHES, TypicalCost, typical_cost
from milbench.models import BagOutput
from milbench.registry import is_baseline, load_models

BASELINES = [name for name, model in load_models().items() if is_baseline(model)]


@pytest.mark.parametrize("name", ["max_pooling", "amil"])
def test_numbers_are_those_counted_by_hand(name: str) -> None:
    found = typical_cost(load_models()[name])
    embed = FEATURES * 512
    weights = {"max_pooling": embed + 512, "amil": embed + 2 * 512 * 256 + 256 + 512}[name]  # without biases
    biases = {"max_pooling": 512 + 1, "amil": 512 + 2 * 256 + 1 + 1}[name]
    assert found is not None
    assert found.parameters == weights + biases
    per_patch = weights - (512 if name == "amil" else 0)
    # the bag's head, and for AMIL the attention-weighted sum of the patches
    assert found.multiply_adds == pytest.approx(PATCHES * per_patch, rel=2e-3)
    assert found.step_bytes >= PATCHES * FEATURES * 4 + 5 * 4 * found.parameters


def test_the_random_state_stays_and_the_same_numbers_come_again() -> None:
    before = torch.get_rng_state()
    first = typical_cost(load_models()["dsmil"])
    assert first is not None
    assert first == typical_cost(load_models()["dsmil"])
    assert torch.equal(before, torch.get_rng_state())


def test_no_model_sees_a_large_bag_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    amil = load_models()["amil"]
    forward = amil.forward

    def watched(self: nn.Module, features: Tensor) -> BagOutput:
        seen.append((features.device.type, len(features)))
        return forward(self, features)  # type: ignore[arg-type]

    monkeypatch.setattr(amil, "forward", watched)
    monkeypatch.setattr(cost, "_counted", cost._counted.__wrapped__)  # counts again what another test has counted
    typical_cost(amil)
    assert ("meta", PATCHES) in seen
    assert max(n for device, n in seen if device == "cpu") <= 900


def test_a_model_that_needs_numbers_to_count_is_not_counted() -> None:
    class Reads(Tiny):
        def forward(self, features: Tensor) -> BagOutput:
            features.sum().item()  # meta tensors have none
            return super().forward(features)

    assert cost.multiply_adds(Reads, 6, 1, {}, at_patches=PATCHES) is None
    assert cost.multiply_adds(Reads, 6, 1, {}) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_can_be_counted(name: str) -> None:
    found = typical_cost(load_models()[name])
    assert found is not None
    assert found.multiply_adds


@pytest.mark.slow
def test_a_plug_in_is_counted_in_a_process_that_it_may_end() -> None:
    load_models([THIS_FILE])
    found = typical_cost(Tiny, [THIS_FILE])
    assert isinstance(found, TypicalCost)
    assert found.parameters == FEATURES * 8 + 8 + 8 + 1
    assert typical_cost(Killed, [THIS_FILE]) is None
    assert typical_cost(Explodes, [THIS_FILE]) is not None, "its loss is its own, and finite or not"
