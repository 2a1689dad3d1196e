"""MP-AMIL's grid some rows at a time: the same numbers and gradients as all at once, whatever parts it has."""

import itertools

import pytest
import torch
from torch import Tensor

import milbench_baselines.layers.mp_amil
from milbench_baselines.layers import grid_taps
from milbench_baselines.layers.mp_amil import MPAMIL

PARTS = ("mask_duplicates", "position_encoding", "layer_norm", "residual", "activate_identity")


def everything(expert: MPAMIL, bag: Tensor) -> list[Tensor | None]:
    """Results of a training step, gradient of the bag, and gradients of all weights."""
    expert.zero_grad()
    bag = bag.clone().requires_grad_()
    torch.manual_seed(3)
    slide, scores = expert(bag)
    weigh = torch.Generator().manual_seed(4)
    total = sum((each * torch.randn(each.shape, dtype=each.dtype, generator=weigh)).sum() for each in (slide, scores))
    total.backward()
    return [slide.detach(), scores.detach(), bag.grad, *(weight.grad for weight in expert.parameters())]


@pytest.mark.parametrize("parts", list(itertools.product((False, True), repeat=len(PARTS))), ids=str)
def test_a_grid_in_blocks_is_the_whole_grid(parts: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    options = dict(zip(PARTS, parts, strict=True))
    expert = MPAMIL(7, hidden=8, attention=5, attention_dropout=0.3, **options).double().train()
    with torch.no_grad():
        for weight in expert.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)  # normalisation and biases off their starts
    for n, numbers in ((1, 64), (2, 64), (5, 64), (17, 64), (83, 64), (83, 300), (81, 2**18)):
        bag = torch.randn(n, 7, dtype=torch.float64)
        monkeypatch.setattr(grid_taps, "NUMBERS_OF_A_BLOCK", numbers)
        for in_blocks in (True, False):
            monkeypatch.setattr(
                milbench_baselines.layers.mp_amil, "goes_in_blocks", lambda *_, answer=in_blocks, **__: answer
            )
            if in_blocks:
                ours = everything(expert, bag)
        for own, whole in zip(ours, everything(expert, bag), strict=True):
            assert (own is None) == (whole is None)
            if whole is not None:
                torch.testing.assert_close(own, whole, atol=1e-11, rtol=1e-10)
