"""Models that take big bags a block of patches at a time: the same numbers, gradients and draws as without blocks."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

import milbench_baselines.dtfd_mil
import milbench_baselines.layers.attention_expert
import milbench_baselines.layers.embedding
import milbench_baselines.layers.mp_amil
import milbench_baselines.max_pooling
import milbench_baselines.mean_pooling
from milbench.training.activations import saved_bytes
from milbench_baselines.amil import AMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.layers.row_blocks import FEW, ROWS, blocks_of
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL
from milbench_baselines.shared_bottom import SharedBottomAMIL

MODELS = {
    "mean": lambda: MeanPooling(12, 2, hidden=10, dropout=0.4),
    "mean, no dropout": lambda: MeanPooling(12, 1, hidden=10, dropout=0.0),
    "mean of embeddings": lambda: MeanPooling(12, 1, hidden=10, dropout=0.4, level="embedding"),
    "max": lambda: MaxPooling(12, 2, hidden=10, dropout=0.4),
    "dtfd": lambda: DTFDMIL(12, 1, hidden=10, attention=4, dropout=0.2),
    "dtfd, MaxMinS": lambda: DTFDMIL(12, 1, hidden=10, attention=4, distillation="MaxMinS", total_instances=8),
    "amil": lambda: AMIL(12, 2, hidden=10, attention=5, dropout=0.4),
    "amil, no dropout": lambda: AMIL(12, 1, hidden=10, attention=4, dropout=0.0),
    "shared bottom": lambda: SharedBottomAMIL(12, 3, hidden=10, attention=4),
    "mmoe, amil": lambda: MMoEAMIL(12, 3, hidden=8, attention=4, experts=2),
    "mmoe, mp-amil": lambda: MMoEMPAMIL(12, 3, hidden=8, attention=5, experts=2, mask_duplicates=True),
    "m4": lambda: M4(12, 3, hidden=8, attention=5, experts=2),
}
DRAWS = [name for name in MODELS if "no dropout" not in name]
WITH_BLOCKS = (
    milbench_baselines.mean_pooling,
    milbench_baselines.max_pooling,
    milbench_baselines.dtfd_mil,
    milbench_baselines.layers.attention_expert,
    milbench_baselines.layers.embedding,
    milbench_baselines.layers.mp_amil,
)


def made(name: str) -> nn.Module:
    torch.manual_seed(1)
    return MODELS[name]().double().train()


def step(model: nn.Module, bag: Tensor) -> tuple[list[Tensor], Tensor]:
    """Logits, other results and gradients of a step, and the state of the generator after it."""
    torch.manual_seed(2)
    model.zero_grad()
    output = model(bag)
    labels = torch.ones(model.n_tasks, dtype=torch.float64)
    model.loss(output, labels, labels).backward()
    results = [output.logits, *output.aux.values(), *(p.grad for p in model.parameters())]
    return [result.detach() for result in results], torch.get_rng_state()


def without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in WITH_BLOCKS:
        monkeypatch.setattr(module, "goes_in_blocks", lambda *_: False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, FEW, FEW + 1, ROWS, ROWS + 1, 2 * ROWS + 413])
def test_a_step_in_blocks_is_the_plain_step(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bag = made(name), torch.randn(n, 12, dtype=torch.float64)
    in_blocks, state = step(model, bag)
    without_blocks(monkeypatch)
    plain, plain_state = step(model, bag)
    for ours, expected in zip(in_blocks, plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=1e-10)
    assert torch.equal(state, plain_state)


@pytest.mark.parametrize("name", MODELS)
def test_inference_in_blocks_is_the_plain_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bag = made(name).eval(), torch.randn(ROWS + 300, 12, dtype=torch.float64)
    with torch.no_grad():
        in_blocks = model(bag)
        without_blocks(monkeypatch)
        plain = model(bag)
    torch.testing.assert_close(in_blocks.logits, plain.logits)
    assert all(torch.allclose(in_blocks.aux[key], plain.aux[key]) for key in plain.aux)


@pytest.mark.parametrize("name", DRAWS)
def test_inside_vmap_copies_draw_and_learn_what_one_does_alone(name: str) -> None:
    model, bag = made(name), torch.randn(ROWS + 200, 12, dtype=torch.float64)
    weights = {key: torch.stack([p.detach(), p.detach() * 0.5]).requires_grad_() for key, p in model.named_parameters()}

    def logits(own: dict[str, Tensor]) -> Tensor:
        return functional_call(model, own, (bag,)).logits

    torch.manual_seed(3)
    together = vmap(logits, randomness="same")(weights)
    gradients = torch.autograd.grad(together.square().sum(), list(weights.values()), allow_unused=True)
    alone = []
    for row in range(2):
        torch.manual_seed(3)
        alone.append(logits({key: values[row] for key, values in weights.items()}))
    expected = torch.autograd.grad(torch.stack(alone).square().sum(), list(weights.values()), allow_unused=True)
    torch.testing.assert_close(together, torch.stack(alone))
    for key, ours, theirs in zip(weights, gradients, expected, strict=True):
        zero = torch.zeros_like(weights[key])
        torch.testing.assert_close(zero if ours is None else ours, zero if theirs is None else theirs)


@pytest.mark.parametrize("name", ["mean, no dropout", "dtfd", "amil", "m4"])
def test_the_gradient_of_features_and_of_attention_is_that_of_no_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bag = made(name).eval(), torch.randn(ROWS + 7, 12, dtype=torch.float64, requires_grad=True)

    def gradients() -> tuple[Tensor, ...]:
        output = model(bag)
        found = output.logits.sum()
        if output.attention is not None:
            found = found + output.attention.square().sum() * 100
            found = found + output.aux.get("pseudo_logits", output.aux.get("scores")).sum()
        return torch.autograd.grad(found, (bag, *model.parameters()), allow_unused=True)

    in_blocks = gradients()
    without_blocks(monkeypatch)
    for ours, plain in zip(in_blocks, gradients(), strict=True):
        assert (ours is None) == (plain is None)
        if plain is not None:
            torch.testing.assert_close(ours, plain)


def test_mean_pooling_keeps_nothing_per_patch() -> None:
    model = MeanPooling(12, 1, hidden=64)
    small, large = (saved_bytes(model, 12, n) for n in (200, 4000))
    assert large - small <= 3800 * 4 * 4  # its logits, if anything


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        (AMIL(12, 1, hidden=64, attention=32), 64 + 2 * 32),  # the embedding, and both branches
        (MMoEAMIL(12, 2, hidden=64, attention=16, experts=3), 3 * (64 + 2 * 16)),
        (M4(12, 2, hidden=64, attention=16, experts=3), 3 * (64 + 2 * 16)),  # nothing of the grid
    ],
    ids=["amil", "mmoe", "m4"],
)
def test_a_step_keeps_what_its_backward_cannot_compute_again_cheaply(model: nn.Module, numbers: int) -> None:
    small, large = 40**2, 80**2
    a, b = (saved_bytes(model, 12, n) for n in (small, large))
    scores, largest = 2 * 3, 3 * 64  # what stands beside, and `IN_FLIGHT` times the largest
    assert (b - a) / (large - small) / 4 <= numbers + scores + largest


def test_blocks_cover_every_row_once() -> None:
    for n in (1, ROWS, ROWS + 1, 5 * ROWS - 1):
        rows = [row for block in blocks_of(n) for row in range(n)[block]]
        assert rows == list(range(n))
