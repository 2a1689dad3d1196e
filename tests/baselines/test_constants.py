"""Constants that follow from sizes: made once, and never while a graph is made or for inference alone."""

import pytest
import torch
from torch import Tensor, nn

from milbench.models import MILModel
from milbench_baselines.layers import depthwise, nystrom_layer, sequence_blocks, small_grids
from milbench_baselines.layers.constants import made_once
from milbench_baselines.m4 import M4
from milbench_baselines.mmoe import MMoEMPAMIL
from milbench_baselines.rrt_mil import RRTMIL
from milbench_baselines.transmil import TransMIL

MODELS = {
    "transmil": lambda: TransMIL(12, 1, hidden=16, landmarks=8),
    "transmil, one head": lambda: TransMIL(12, 1, hidden=16, heads=1, landmarks=8),
    "mmoe, mp-amil": lambda: MMoEMPAMIL(12, 2, hidden=8, attention=5, experts=2),
    "m4": lambda: M4(12, 2, hidden=8, attention=5, experts=2),
    "rrt": lambda: RRTMIL(12, 1, hidden=16),
}
CONSTANTS = (
    depthwise.reads, depthwise._reads_along, depthwise._reads_in_window, nystrom_layer._averages_of, sequence_blocks._reads,
    small_grids._entries, small_grids._reads,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """No constant is there yet."""
    for constant in CONSTANTS:
        constant.kept.clear()


class Logits(nn.Module):
    """What is exported of a model."""

    def __init__(self, model: MILModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        return self.model(features).logits


@pytest.mark.parametrize("n", [20, 36, 100])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_exported_first_answers_as_before(name: str, n: int) -> None:
    torch.manual_seed(0)
    model, bag = MODELS[name]().eval(), torch.randn(n, 12)
    with torch.no_grad():
        exported = torch.export.export(Logits(model), (bag,)).module()(bag)
        torch.testing.assert_close(model(bag).logits, exported, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.double()(bag.double()).logits, exported.double(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n", [20, 36, 100])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_answered_in_inference_mode_can_train(name: str, n: int) -> None:
    model, bag = MODELS[name]().eval(), torch.randn(n, 12)
    with torch.inference_mode():
        model(bag)
    labels = torch.ones(model.n_tasks)
    model.loss(model.train()(bag), labels, labels).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_constant_is_made_once_for_the_same_sizes() -> None:
    made = []

    @made_once
    def zeros(n: int, *, width: int) -> Tensor:
        made.append((n, width))
        return torch.zeros(n, width)

    assert zeros(2, width=3) is zeros(2, width=3)
    assert zeros(3, width=2).shape == (3, 2)
    assert made == [(2, 3), (3, 2)]
