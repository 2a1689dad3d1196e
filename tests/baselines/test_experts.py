"""Experts side by side give what they give one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from milbench.training.precision import arithmetic
from milbench_baselines.layers import experts as module
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.experts import PATCHES_ON_A_GPU, PATCHES_SIDE_BY_SIDE, of_experts
from milbench_baselines.layers.mp_amil import MPAMIL
from milbench_baselines.layers.side_by_side import by_its_own

D, HIDDEN = 6, 8
KINDS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "amil": (AttentionExpert, {}),
    "mp": (MPAMIL, {}),
    "mp, duplicates masked": (MPAMIL, {"mask_duplicates": True}),
    "mp, bare": (
        MPAMIL,
        {"position_encoding": False, "layer_norm": False, "residual": False, "activate_identity": False},
    ),
}


def made(kind: str, *, hidden: int = HIDDEN) -> nn.ModuleList:
    torch.manual_seed(0)
    cls, options = KINDS[kind]
    experts = nn.ModuleList(cls(D, hidden=hidden, attention=3, **options) for _ in range(3)).double().eval()
    for parameter in experts.parameters():  # also the biases and norms that start alike
        nn.init.normal_(parameter, std=0.5)
    return experts


def gradients(outputs: tuple[Tensor, Tensor], parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """Gradients of a sum that every entry of slide feature and scores enters with another weight."""
    torch.manual_seed(2)
    total = sum((torch.randn_like(output) * output).sum() for output in outputs)
    return torch.autograd.grad(total, parameters, allow_unused=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5, 9, 100])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("precision", "hidden"), [("float32", HIDDEN), ("bf16", 128)])
def test_forward_as_the_paper_writes_it_and_its_fast_form_of_one_expert_are_equal_up_to_rounding(
    kind: str, n: int, precision: str, hidden: int, *, training: bool
) -> None:
    """Dropout included. Hence two widths: torch rounds products of few entries in another way, bf16 leaves thin ones alone."""
    near = {"rtol": 1e-4, "atol": 1e-5} if precision == "float32" else {"rtol": 0.05, "atol": 0.05}
    expert = made(kind, hidden=hidden)[0].float().train(training)
    features = torch.randn(n, D)
    with arithmetic(precision, features.device):
        torch.manual_seed(1)
        plain = expert(features)
        torch.manual_seed(1)
        slides, scores = type(expert).of_all([expert], features)
    fast = (slides.squeeze(0), scores.squeeze(0))
    for pair in zip(plain, fast, strict=True):
        torch.testing.assert_close(*pair, **near)
    parameters = list(expert.parameters())
    pairs = list(zip(gradients(plain, parameters), gradients(fast, parameters), strict=True))
    for gradient, expected in pairs:
        scale = max(float(expected.abs().max()), 1.0)
        torch.testing.assert_close(gradient / scale, expected / scale, **near)
    assert any(gradient.any() for gradient, _ in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5, 9, 100])
def test_three_experts_in_shared_products_differ_from_one_by_one_by_rounding_alone(kind: str, n: int) -> None:
    """float32, so to a few units in the seventh digit; `test_side_by_side_...` holds float64 and the gradients."""
    experts = made(kind).float()
    features = torch.randn(n, D)
    together = type(experts[0]).of_all(list(experts), features)
    for found, expected in zip(together, one_by_one(experts, features), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)


def one_by_one(experts: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5, 9, 100])  # a full square, and others
def test_side_by_side_gives_the_values_and_gradients_of_one_by_one(kind: str, n: int) -> None:
    experts = made(kind)
    features = torch.randn(n, D, dtype=torch.float64)
    ours, theirs = of_experts(experts, features), one_by_one(experts, features)
    weight = torch.randn_like(theirs[0])
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad((m * weight).sum() + s.square().sum(), list(experts.parameters()))
        for m, s in (ours, theirs)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [PATCHES_SIDE_BY_SIDE + 1, 256])  # 256 is a full square
@pytest.mark.parametrize("training", [False, True])
def test_narrow_experts_side_by_side_draw_and_give_what_they_do_one_by_one(
    monkeypatch: pytest.MonkeyPatch, kind: str, n: int, *, training: bool
) -> None:
    experts = made(kind).train(training)
    features, parameters = torch.randn(n, D, dtype=torch.float64), list(experts.parameters())
    calls = calls_of_all(monkeypatch, type(experts[0]))
    found = []
    for way in (of_experts, one_by_one):
        torch.manual_seed(1)
        outputs = way(experts, features)
        found.append((*outputs, torch.get_rng_state(), *gradients(outputs, parameters)))
    assert calls == [n]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def calls_of_all(monkeypatch: pytest.MonkeyPatch, kind: Any) -> list[int]:
    """Patches of each bag whose experts go side by side, as they come."""
    calls, usual = [], kind.of_all

    def counted(experts: Any, features: Tensor, *masks: Any) -> Any:
        calls.append(len(features))
        return usual(experts, features, *masks)

    monkeypatch.setattr(kind, "of_all", staticmethod(counted))
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_experts_go_side_by_side_up_to_their_number_of_numbers(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    experts = made(kind)
    calls = calls_of_all(monkeypatch, type(experts[0]))
    most = 200
    monkeypatch.setattr(type(experts[0]), "numbers_side_by_side", most * HIDDEN * len(experts))
    for n in (most, most + 1):
        of_experts(experts, torch.randn(n, D, dtype=torch.float64))
    assert calls == [most]


@pytest.mark.parametrize("kind", KINDS)
def test_many_bags_side_by_side(kind: str) -> None:
    experts = made(kind)
    bags = torch.randn(4, 7, D, dtype=torch.float64)
    together = vmap(lambda bag: of_experts(experts, bag))(bags)
    for i, bag in enumerate(bags):
        for found, expected in zip(together, one_by_one(experts, bag), strict=True):
            torch.testing.assert_close(found[i], expected)


@pytest.mark.parametrize(("device", "limit"), [("cpu", PATCHES_SIDE_BY_SIDE), ("meta", PATCHES_ON_A_GPU)])
def test_only_small_bags_go_side_by_side(monkeypatch: pytest.MonkeyPatch, device: str, limit: int) -> None:
    """Larger ones on a device that waits for its operations to be started."""

    def refuse(*_: object) -> None:
        raise AssertionError("side by side")

    experts = made("amil")
    monkeypatch.setattr(AttentionExpert, "of_all", refuse)
    monkeypatch.setattr(AttentionExpert, "numbers_side_by_side", 3 * limit * HIDDEN)  # for a CPU; a GPU has one limit
    plain = property(lambda _: True)  # `is_usual` knows a usual layer by its forward
    monkeypatch.setattr(AttentionExpert, "forward", lambda self, x: (x.new_zeros(HIDDEN), x.new_zeros(len(x))))
    monkeypatch.setattr(AttentionExpert, "is_usual", plain)
    assert of_experts(experts, torch.zeros(limit + 1, D, device=device))[1].shape == (3, limit + 1)
    with pytest.raises(AssertionError, match="side by side"):
        of_experts(experts, torch.zeros(limit, D, device=device))


def test_every_expert_drops_out_by_itself_and_both_ways_at_the_same_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other masks, drawn in another order, of the same distribution: the means of many passes meet."""
    experts = made("amil").train()
    with torch.no_grad():
        for expert in experts[1:]:
            expert.load_state_dict(experts[0].state_dict())
    features = torch.randn(
        1, D, dtype=torch.float64
    )  # one patch: its slide feature is its embedding, linear in the mask
    means = []
    monkeypatch.setattr(AttentionExpert, "numbers_side_by_side", 0)
    for limit in (PATCHES_SIDE_BY_SIDE, 0):
        monkeypatch.setattr(module, "PATCHES_SIDE_BY_SIDE", limit)
        torch.manual_seed(1)
        with torch.no_grad():
            drawn = torch.stack([of_experts(experts, features)[0] for _ in range(2000)])
        assert (drawn[:, 0] != drawn[:, 1]).any(dim=1).float().mean() > 0.5
        means.append(drawn.mean(dim=(0, 1)))
    expected = experts[0].eval()(features)[0]
    for mean in means:
        torch.testing.assert_close(mean, expected, rtol=0.05, atol=1e-9)


@pytest.mark.parametrize("members", [False, True])
def test_products_by_own_matrices_mapped_over_bags_and_members(members: bool) -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64, requires_grad=True)  # [S, B, K, N, Q]
    matrices = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)  # [S, K, P, Q]
    over_bags = vmap(by_its_own, (0, None))
    ours = vmap(over_bags)(rows, matrices) if members else over_bags(rows[0], matrices[0])[None]
    expected = torch.einsum("sbknq,skpq->sbknp", rows[: len(ours)], matrices[: len(ours)])
    torch.testing.assert_close(ours, expected)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((ours * weight).sum(), (rows, matrices))
    for one, other in zip(found, torch.autograd.grad((expected * weight).sum(), (rows, matrices)), strict=True):
        torch.testing.assert_close(one, other)


def test_products_by_own_matrices_under_autocast_keep_float32() -> None:
    rows, matrices = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = by_its_own(rows.bfloat16(), matrices)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, rows.bfloat16().float() @ matrices.mT)
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(out.sum(), (rows, matrices)))
