"""Models that take big bags a block of patches at a time: the same numbers, gradients and draws as without blocks."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from vmap_rules import assert_stacked_copies_equal_each_alone, assert_training_works_together

import milbench_baselines.dsmil
import milbench_baselines.dtfd_mil
import milbench_baselines.layers.attention_expert
import milbench_baselines.layers.embedding
import milbench_baselines.layers.mp_amil
import milbench_baselines.layers.pooling
import milbench_baselines.layers.small_bags
from milbench.training.activations import saved_bytes
from milbench_baselines.amil import AMIL
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.layers import row_blocks
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.mp_amil import MPAMIL
from milbench_baselines.layers.row_blocks import FEW, ROWS, blocks_of
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL
from milbench_baselines.shared_bottom import SharedBottomAMIL
from milbench_baselines.transmil import TransMIL

MODELS = {
    "mean": lambda: MeanPooling(12, 2, hidden=10, dropout=0.4),
    "mean, no dropout": lambda: MeanPooling(12, 1, hidden=10, dropout=0.0),
    "mean of embeddings": lambda: MeanPooling(12, 1, hidden=10, dropout=0.4, level="embedding"),
    "max": lambda: MaxPooling(12, 2, hidden=10, dropout=0.4),
    "dtfd": lambda: DTFDMIL(12, 1, hidden=10, attention=4, dropout=0.2),
    "dtfd, MaxMinS": lambda: DTFDMIL(12, 1, hidden=10, attention=4, distillation="MaxMinS", total_instances=8),
    "dsmil, no dropout": lambda: DSMIL(12, 3, attention=6),
    "dsmil": lambda: DSMIL(12, 1, attention=6, patch_dropout=0.3),
    "dsmil of many logits, no dropout": lambda: DSMIL(12, 6, attention=6),
    "dsmil of embeddings, no dropout": lambda: DSMIL(12, 2, hidden=10, attention=6, embeds=True),
    "amil": lambda: AMIL(12, 2, hidden=10, attention=5, dropout=0.4),
    "amil, no dropout": lambda: AMIL(12, 1, hidden=10, attention=4, dropout=0.0),
    "shared bottom": lambda: SharedBottomAMIL(12, 3, hidden=10, attention=4),
    "mmoe, amil": lambda: MMoEAMIL(12, 3, hidden=8, attention=4, experts=2),
    "mmoe, mp-amil": lambda: MMoEMPAMIL(12, 3, hidden=8, attention=5, experts=2, mask_duplicates=True),
    "m4": lambda: M4(12, 3, hidden=8, attention=5, experts=2),
}
DRAWS = [name for name in MODELS if "no dropout" not in name]
WITH_BLOCKS = (
    milbench_baselines.dsmil,
    milbench_baselines.dtfd_mil,
    milbench_baselines.layers.attention_expert,
    milbench_baselines.layers.embedding,
    milbench_baselines.layers.mp_amil,
    milbench_baselines.layers.pooling,
)


@pytest.fixture(autouse=True)
def blocks_wherever_they_are_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks also of small bags, of `ROWS` rows, which layers as narrow as these would fill only with very large bags."""
    monkeypatch.setattr(milbench_baselines.layers.small_bags, "FEWER", FEW)
    monkeypatch.setattr(milbench_baselines.layers.small_bags, "NUMBERS", 0)
    monkeypatch.setattr(milbench_baselines.dsmil, "FEW_IN_STEP", FEW)
    monkeypatch.setattr(row_blocks, "NUMBERS", 0)


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
        monkeypatch.setattr(module, "goes_in_blocks", lambda *_, **__: False)


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


@pytest.mark.parametrize(
    "name", ["mean, no dropout", "dtfd", "dsmil, no dropout", "dsmil of many logits, no dropout", "amil", "m4"]
)
def test_the_gradient_of_features_and_of_attention_is_that_of_no_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bag = made(name).eval(), torch.randn(ROWS + 7, 12, dtype=torch.float64, requires_grad=True)

    def gradients() -> tuple[Tensor, ...]:
        output = model(bag)
        found = output.logits.sum()
        if output.attention is not None:
            found = found + output.attention.square().sum() * 100
            others = (output.aux.get(name) for name in ("pseudo_logits", "scores", "top_logits"))
            found = found + next(other for other in others if other is not None).sum()
        return torch.autograd.grad(found, (bag, *model.parameters()), allow_unused=True)

    in_blocks = gradients()
    without_blocks(monkeypatch)
    for ours, plain in zip(in_blocks, gradients(), strict=True):
        assert (ours is None) == (plain is None)
        if plain is not None:
            torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name", MODELS)
def test_torch_func_differentiates_large_bags_too(name: str) -> None:
    assert_stacked_copies_equal_each_alone(lambda: MODELS[name](), FEW + 5)
    assert_training_works_together(lambda: MODELS[name](), FEW + 5)


@pytest.mark.parametrize("name", ["dtfd", "dsmil, no dropout", "amil", "mmoe, amil", "mmoe, mp-amil", "m4", "transmil"])
def test_a_second_gradient_is_refused_where_it_would_lack_parts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for expert in (AttentionExpert, MPAMIL):
        monkeypatch.setattr(expert, "numbers_side_by_side", 0)  # side by side they have one
    model = TransMIL(12, 1, hidden=16).double() if name == "transmil" else made(name)
    bag = torch.randn(FEW + 5, 12, dtype=torch.float64, requires_grad=True)

    def total() -> Tensor:
        output = model(bag)
        return output.aux.get("pseudo_logits", output.logits).square().sum()  # DTFD-MIL's second tier stands alone

    weight = model.query[0].weight if isinstance(model, DSMIL) else next(iter(model.parameters()))
    for wanted in (bag, weight):
        (first,) = torch.autograd.grad(total(), wanted, create_graph=True)
        assert first.isfinite().all()
        for second in (bag, weight):
            with pytest.raises(RuntimeError, match="gradient of a gradient"):
                torch.autograd.grad(first.square().sum(), second, retain_graph=True)


@pytest.mark.parametrize("name", ["mmoe, amil", "mmoe, mp-amil", "m4"])
def test_narrow_experts_side_by_side_have_a_second_gradient(name: str) -> None:
    model = made(name).eval()
    bag = torch.randn(FEW + 5, 12, dtype=torch.float64, requires_grad=True)

    def second() -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(model(bag).logits.square().sum(), bag, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (bag, *model.parameters()), allow_unused=True)

    found = second()
    for layer in model.modules():  # all layers are called as modules if somebody listens
        layer.register_forward_hook(lambda *_: None)
    for ours, plain in zip(found, second(), strict=True):
        assert (ours is None) == (plain is None)
        if plain is not None:
            torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name", ["mmoe, amil", "mmoe, mp-amil", "m4", "transmil"])
def test_functions_of_small_bags_refuse_a_second_gradient_too(name: str) -> None:
    """They would leave out all that goes through the first one, without a word."""
    model = TransMIL(12, 1, hidden=16, heads=1, landmarks=8).double() if name == "transmil" else made(name)
    bag = torch.randn(16, 12, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(model(bag).logits.square().sum(), bag, create_graph=True)
    with pytest.raises(RuntimeError, match="gradient of a gradient"):
        torch.autograd.grad(first.square().sum(), bag)


def test_a_small_bag_inside_torch_func_refuses_a_second_gradient_too() -> None:
    model = made("amil").eval()
    first = grad(lambda x: model(x).logits.sum())
    with pytest.raises(RuntimeError, match="gradient of a gradient"):
        grad(lambda x: first(x).square().sum())(torch.randn(16, 12, dtype=torch.float64))


def test_a_second_gradient_inside_torch_func_is_that_of_a_small_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    model, bag = made("amil").eval(), torch.randn(FEW + 5, 12, dtype=torch.float64)

    def squares(x: Tensor) -> Tensor:
        return grad(lambda x: model(x).logits.sum())(x).square().sum()

    found = grad(squares)(bag)
    without_blocks(monkeypatch)
    bag = bag.clone().requires_grad_()
    (first,) = torch.autograd.grad(model(bag).logits.sum(), bag, create_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(first.square().sum(), bag)[0])


def test_a_layer_whose_weight_is_made_of_others_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    expert = MPAMIL(12, hidden=8, attention=5).double().eval()
    for layer in (expert.position, expert.norm, expert.attention.score):
        torch.nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    bag = torch.randn(FEW + 5, 12, dtype=torch.float64)
    slide, scores = expert(bag)
    monkeypatch.setattr(milbench_baselines.layers.mp_amil, "goes_in_blocks", lambda *_, **__: False)
    plain = expert(bag)
    torch.testing.assert_close((slide, scores), plain)


@pytest.mark.parametrize("name", ["mean, no dropout", "amil", "mmoe, amil"])
def test_gradients_of_a_model_in_bf16_are_as_exact_as_bf16(name: str) -> None:
    """Sums over 20 blocks that are rounded to 8 bits each time would be off by several percent."""
    torch.manual_seed(0)
    model, bag = made(name).eval().bfloat16(), torch.randn(20 * ROWS, 12).bfloat16()
    output = model(bag)
    output.logits.sum().backward()
    gradients = [p.grad.double() for p in model.parameters() if p.grad is not None]
    model.double().zero_grad()
    model(bag.double()).logits.sum().backward()
    exact = [p.grad for p in model.parameters() if p.grad is not None]
    largest = max(gradient.abs().max() for gradient in exact)
    for ours, expected in zip(gradients, exact, strict=True):
        assert (ours - expected).norm() <= 0.02 * expected.norm() + 0.002 * largest


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight + 1


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


@pytest.mark.parametrize("name", ["amil", "amil, no dropout", "mmoe, amil"])
@pytest.mark.parametrize("n", [FEW + 1, 2 * ROWS + 413])
def test_branches_that_are_computed_again_are_those_that_were_not_kept(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bag = made(name), torch.randn(n, 12, dtype=torch.float64)
    kept, state = step(model, bag)
    monkeypatch.setattr(milbench_baselines.layers.attention_expert, "MOST_KEPT", 0)
    again, state_again = step(model, bag)
    assert all(map(torch.equal, kept, again))
    assert torch.equal(state, state_again)


def test_the_branches_of_a_large_bag_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = saved_bytes(AMIL(12, 1, hidden=64, attention=32), 12, 4000)
    monkeypatch.setattr(milbench_baselines.layers.attention_expert, "MOST_KEPT", 3999)
    assert kept - saved_bytes(AMIL(12, 1, hidden=64, attention=32), 12, 4000) > 2 * 32 * 4 * 3900


@pytest.mark.parametrize("name", ["amil", "amil, no dropout"])
def test_branches_are_computed_again_for_each_backward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milbench_baselines.layers.attention_expert, "MOST_KEPT", 0)
    model, bag = made(name), torch.randn(ROWS + 7, 12, dtype=torch.float64)
    answer = model(bag).logits.sum()
    weights = list(model.parameters())
    first = torch.autograd.grad(answer, weights, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(answer, weights)))


@pytest.mark.parametrize("by_onednn", [True, False])
def test_blocks_cover_every_row_once(by_onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "prefers_onednn", lambda: by_onednn)
    for n in (1, ROWS, ROWS + 1, 5 * ROWS - 1, 10_000):
        blocks = blocks_of(n, width=512)
        assert [row for block in blocks for row in range(n)[block]] == list(range(n))
        assert all(block.stop <= n for block in blocks)  # whose length a buffer gets


def test_blocks_are_as_long_as_memory_lets_them_be_and_none_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "prefers_onednn", lambda: False)
    monkeypatch.setattr(row_blocks, "NUMBERS", 2**20)
    for n, width, longest in ((10_000, 512, 2048), (10_000, 128, 8192), (2049, 512, 2048), (10_000, 4096, ROWS)):
        lengths = [block.stop - block.start for block in blocks_of(n, width=width)]
        assert longest / 2 < max(lengths) <= longest
        assert lengths[0] == max(lengths)
        assert max(lengths) - min(lengths) <= 16 * len(lengths)
        assert all(length % 16 == 0 for length in lengths[:-1])
