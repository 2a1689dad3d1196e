"""Nyström mixing in blocks gives what the plain formulas give: values, gradients, in stacks, at every edge."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.functional import conv2d, pad

from milbench_baselines.layers import landmarks, nystrom_all, one_head
from milbench_baselines.layers.landmarks import Plan
from milbench_baselines.layers.nystrom_attention import NystromAttention
from milbench_baselines.layers.nystrom_mixing import mixed

WIDTH, LANDMARKS = 8, 4


def plain(tokens: Tensor, weight: Tensor, kernels: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """What `mixed` computes, whole matrices at a time."""
    padding = -len(tokens) % plan.landmarks
    padded = pad(tokens, (0, 0, padding, 0))
    q, k, v = (padded @ weight.T).unflatten(-1, (3, plan.heads, -1)).permute(1, 2, 0, 3)
    q = q * q.shape[-1] ** -0.5
    q_mean, k_mean = (each.unflatten(1, (plan.landmarks, -1)).mean(dim=2) for each in (q, k))
    a1, a2, a3 = ((x @ y.mT).softmax(dim=-1) for x, y in ((q, k_mean), (q_mean, k_mean), (q_mean, k)))
    z = pseudo_inverse(a2, plan.iterations)
    out = a1 @ z @ a3 @ v
    if kernels is not None:
        out = (
            out + conv2d(v[None], kernels[:, None, :, None], padding=(kernels.shape[-1] // 2, 0), groups=plan.heads)[0]
        )
    out = out[:, padding:].transpose(0, 1).flatten(1)
    attention = (a1[:, padding][:, None] @ z @ a3)[:, 0, padding:]
    return (out[:1], attention) if plan.first_only else (out, attention[:, :0])


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate inverses of A [heads, m, m] by steps as nystrom-attention 0.0.14 writes them, of all heads together."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype)
    z = a.mT / (a.abs().sum(dim=-1).max() * a.abs().sum(dim=-2).max())
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az)))
    return z


def test_the_steps_converge_to_the_exact_inverse() -> None:
    a = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0)).double().softmax(dim=-1)
    torch.testing.assert_close(pseudo_inverse(a, 40), torch.linalg.pinv(a))


def made(n: int, *lead: int, heads: int = 2, size: int | None = 5, seed: int = 0) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed + n)
    shapes = [(n, WIDTH), (3 * WIDTH, WIDTH), None if size is None else (heads, size)]
    return [
        None if shape is None else torch.randn(*lead, *shape, generator=generator).double().requires_grad_()
        for shape in shapes
    ]


def gradients(found: Tensor, given: list[Tensor | None]) -> tuple[Tensor, ...]:
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).double()
    return torch.autograd.grad((found * weight).sum(), [each for each in given if each is not None])


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], given: list[Tensor | None]) -> None:
    for each, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(each, expected, atol=1e-10, rtol=1e-10)
    for each, expected in zip(gradients(ours[0], given), gradients(theirs[0], given), strict=True):
        torch.testing.assert_close(each, expected, atol=1e-10, rtol=1e-10)


@pytest.fixture(params=[1, 2**20], ids=["blocks of 32", "one block"])
def _entries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "ENTRIES", request.param)
    monkeypatch.setattr(nystrom_all, "NARROW", 0 if request.param == 1 else 32)


@pytest.mark.usefixtures("_entries")
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 9, 31, 32, 33, 64, 65, 97, 131])
def test_values_and_gradients_are_the_plain_ones(n: int, first_only: bool) -> None:
    for heads, size in ((2, 5), (1, 33), (4, None)):
        given, plan = made(n, heads=heads, size=size), Plan(heads, LANDMARKS, 6, first_only)
        assert_same(mixed(*given, plan), plain(*given, plan), given)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize(("n_landmarks", "iterations"), [(1, 6), (16, 6), (16, 0), (16, 1), (7, 2)])
def test_any_number_of_landmarks_and_steps(n_landmarks: int, iterations: int, first_only: bool) -> None:
    for n in (1, 5, 16, 23):
        given, plan = made(n), Plan(2, n_landmarks, iterations, first_only)
        assert_same(mixed(*given, plan), plain(*given, plan), given)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("zeros", [1, 3, 4, 7, 10])
def test_zeros_that_are_there_in_front(zeros: int, first_only: bool) -> None:
    given = made(12)
    plan = Plan(2, LANDMARKS, 6, first_only, zeros)

    def behind_zeros(function):
        return function(pad(given[0][zeros:], (0, 0, zeros, 0)), *given[1:], plan)

    assert_same(behind_zeros(mixed), behind_zeros(plain), given)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 31, 33, 64, 65, 97, 131])
@pytest.mark.parametrize("size", [5, 33, None])
@pytest.mark.parametrize(("n_landmarks", "iterations"), [(1, 6), (4, 6), (7, 2), (4, 0)])
def test_one_head_of_a_narrow_bag_gives_the_plain_values_and_gradients(
    n: int, size: int | None, n_landmarks: int, iterations: int, first_only: bool
) -> None:
    given, plan = made(n, heads=1, size=size), Plan(1, n_landmarks, iterations, first_only)
    assert one_head.is_narrow(given[0], plan)
    assert_same(one_head.mixed_narrow(*given, plan), plain(*given, plan), given)
    with torch.no_grad():
        torch.testing.assert_close(one_head.mixed_narrow(*given, plan), plain(*given, plan), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("crop", ["aligned", "legacy"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("n", [3, 8, 70])
def test_projections_and_convolutions_in_another_ones_place_are_called(
    n: int, heads: int, crop: str, rows: int | None
) -> None:
    torch.manual_seed(0)
    sizes = {"heads": heads, "landmarks": LANDMARKS, "value_residual": 5, "dropout": 0.0}
    attention, calls = NystromAttention(WIDTH, **sizes, crop=crop).double(), []
    tokens = torch.randn(n, WIDTH, dtype=torch.float64)
    expected = attention(tokens, rows=rows)
    for name in ("to_qkv", "res_conv"):
        layer = attention.get_submodule(name)
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
        setattr(attention, name, nn.Sequential(layer))
    torch.testing.assert_close(attention(tokens, rows=rows), expected, atol=1e-10, rtol=1e-10)
    assert calls == ["to_qkv", "res_conv"]


@pytest.mark.usefixtures("_entries")
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("n", [1, 6, 70])
def test_mapped_over_models_and_bags(n: int, first_only: bool) -> None:
    models, bags, plan = 2, 3, Plan(2, LANDMARKS, 6, first_only)
    _, weight, kernels = made(n, models)
    tokens, *_ = made(n, models, bags)
    given = [tokens, weight, kernels]

    def of(function):
        def one(x, w, c):
            return function(x, w, c, plan)

        return (
            lambda: vmap(lambda x, w, c: vmap(one, (0, None, None))(x, w, c))(*given),
            lambda: vmap(lambda x: vmap(one)(x, weight, kernels), 1, 1)(tokens),
        )

    for ours, theirs in zip(of(mixed), of(plain), strict=True):
        assert_same(ours(), theirs(), given)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("dims", list(product((0, None), repeat=3))[:-1])
def test_gradients_inside_vmap_are_those_of_each(dims: tuple[int | None, ...], first_only: bool) -> None:
    plan = Plan(2, LANDMARKS, 6, first_only)
    given = [each.detach() if dim == 0 else each[0].detach() for each, dim in zip(made(6, 3), dims, strict=True)]
    ours, theirs = (
        vmap(grad(lambda *each, f=f: (f(*each, plan)[0] ** 2).sum(), argnums=(0, 1, 2)), dims)(*given)
        for f in (mixed, plain)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("first_only", [False, True])
def test_gradients_are_those_of_finite_differences(first_only: bool) -> None:
    given, plan = made(7), Plan(2, LANDMARKS, 3, first_only)
    assert torch.autograd.gradcheck(lambda *each: mixed(*each, plan)[0], given)
