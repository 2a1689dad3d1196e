"""Products of large matrices: the same numbers and gradients from oneDNN as from torch's default, and who gets them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from milbench.machine import processor
from milbench_baselines.layers import products
from milbench_baselines.layers.products import (
    Linear,
    add_outer,
    add_outer_of_each,
    add_times,
    affine,
    affine_of_each,
    baddbmm,
    bmm,
    by_transposed,
    linear,
    outer,
    sum_of_rows,
    tanh_of_affine,
    times,
)

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no oneDNN",
)

N, D, O = 700, 96, 64  # noqa: E741 - the letters of the docstrings


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def choice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(products, "prefers_onednn", lambda: request.param)
    monkeypatch.setattr(products, "FEWEST_MULTIPLY_ADDS", 2_000_000)
    monkeypatch.setattr(products, "NARROWEST", 8)
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each product that oneDNN makes."""
    calls = []

    def counted(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *given, **named: calls.append(1) or product(*given, **named)

    for name in ("_by_onednn", "_outer_by_onednn"):
        monkeypatch.setattr(products, name, counted(getattr(products, name)))
    return calls


def test_each_product_is_what_it_says(choice: bool, used: list[int]) -> None:
    x, weight, bias, rows, into = (torch.randn(*shape) for shape in ((N, D), (O, D), (O,), (N, O), (N, D)))
    total, spare, out = torch.randn(O, D), torch.full((O, D), torch.nan), torch.empty(N, O)
    wide = {name: each.double() for name, each in locals().items() if isinstance(each, Tensor)}
    expected = [
        wide["x"] @ wide["weight"].T + wide["bias"],
        wide["x"] @ wide["weight"].T,
        wide["rows"] @ wide["weight"],
        wide["into"] + wide["rows"] @ wide["weight"],
        wide["x"] @ wide["weight"].T,
        wide["rows"].T @ wide["x"],
        wide["total"] + wide["rows"].T @ wide["x"],
        wide["rows"].T @ wide["x"],
        (wide["x"] @ wide["weight"].T + wide["bias"]).tanh(),
    ]
    ours = [
        affine(x, weight, bias),
        affine(x, weight, out=out),
        times(rows, weight),
        add_times(into, rows, weight),
        by_transposed(x, weight),
        outer(rows, x),
        add_outer(total, rows, x),
        add_outer(spare, rows, x, is_first=True),
        tanh_of_affine(x, weight, bias, out=torch.empty(N, O)),
    ]
    for own, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(own.double(), exact, atol=1e-3, rtol=1e-5)
    assert ours[1] is out
    assert ours[3] is into
    assert ours[6] is total
    assert ours[7] is spare
    assert len(used) == (9 if choice else 0)


@pytest.mark.parametrize("choice", [True], indirect=True)
@pytest.mark.parametrize(
    ("n", "d", "o"), [(1023, 97, 65), (1024, 96, 64), (1025, 130, 33), (2500, 250, 251), (3072, 64, 64)]
)
def test_odd_sizes_and_many_rows_give_the_same_numbers(choice: bool, n: int, d: int, o: int, used: list[int]) -> None:
    x, weight, bias, rows = torch.randn(n, d + 3)[:, 1:-2], torch.randn(o, d), torch.randn(o), torch.randn(o, n).T
    out = torch.full((d, n), torch.nan).T  # its columns lie one after the other
    for own, exact in (
        (affine(x, weight, bias), x.double() @ weight.double().T + bias.double()),
        (affine(x, weight), x.double() @ weight.double().T),
        (times(rows, weight, out=out), rows.double() @ weight.double()),
        (outer(rows, x), rows.double().T @ x.double()),
        (add_outer(torch.ones(o, d), rows, x), 1 + rows.double().T @ x.double()),
    ):
        torch.testing.assert_close(own.double(), exact, atol=2e-3, rtol=1e-5)
    assert affine(x, weight, bias).is_contiguous()
    assert outer(rows, x).is_contiguous()
    assert used


@pytest.mark.parametrize("choice", [True], indirect=True)
def test_bags_of_every_size_make_products_of_few_sizes(choice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, product = set(), products._product
    monkeypatch.setattr(
        products,
        "_product",
        lambda x, weight, *others: sizes.add((*x.shape, len(weight))) or product(x, weight, *others),
    )
    layer = Linear(D, O)
    for n in range(400, 4000, 9):
        layer(torch.randn(n, D)).sum().backward()
    assert 0 < len(sizes) < 100  # 400 bags; products of the forward and of the weight's gradient


@pytest.mark.parametrize("n", [700, 1000, 1024, 1025, 2000, 5000])
def test_no_product_copies_its_many_rows_to_fill_them_up(n: int, choice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, rows = torch.randn(n, D), torch.randn(O, D), torch.randn(O, n).T
    given, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda a, b, *others: given.extend((a, b)) or product(a, b, *others))
    affine(x, weight, out=torch.empty(n, O))
    outer(rows, x)
    memory = x.untyped_storage().data_ptr()
    of_x = [each for each in given if each.untyped_storage().data_ptr() == memory]
    assert len(of_x) == (len(given) / 2 if choice else 0)
    assert all(products._filled_up(size) == size for each in given for size in each.shape)


@pytest.mark.parametrize("n", [1, 7, 63, 64, 65, 700, 1000, 1024, 1025, 2000, 5000])
def test_each_row_is_new_in_one_product(n: int) -> None:
    new = [i for at, n_seen in products._at_once(n) for i in range(at.start + n_seen, at.stop)]
    assert new == list(range(n))


def test_tanh_is_exact_to_rounding_and_keeps_what_is_no_number(choice: bool, used: list[int]) -> None:
    x, eye = torch.linspace(-10, 10, 500 * O).view(500, O), torch.eye(O)
    x[3, 5], x[4, 4], x[5, 5] = torch.nan, torch.inf, 1e-20
    found = tanh_of_affine(x.nan_to_num(), eye, torch.zeros(O), out=torch.empty(500, O))
    exact = x.nan_to_num().double().tanh()
    torch.testing.assert_close(found.double(), exact, atol=0, rtol=5e-7)
    assert tanh_of_affine(x, eye, torch.zeros(O), out=torch.empty(500, O))[3].isnan().all()  # 0 times NaN too
    assert bool(used) == choice


def test_what_does_not_fit_is_told_in_torchs_words(choice: bool) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Linear(D, O)(torch.randn(N, D + 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        affine(torch.randn(N, D - 1), torch.randn(O, D))
    with pytest.raises(RuntimeError, match="same dtype"):
        Linear(D, O).double()(torch.randn(N, D))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_layer_takes_bags_of_every_size(choice: bool) -> None:
    layer = Linear(D, O)
    traced, x = torch.jit.trace(layer, torch.randn(N, D)), torch.randn(3 * N, D)
    torch.testing.assert_close(traced(x), layer(x), atol=1e-4, rtol=1e-4)


def test_a_size_is_filled_up_by_less_than_an_eighth() -> None:
    filled = [products._filled_up(n) for n in range(1, 5000)]
    assert all(n <= to and (to < n + 8 or to - n < n / 8) for n, to in enumerate(filled, start=1))
    assert all(products._filled_up(to) == to for to in filled)
    assert {64, 512, 768, 1024, 1280, 1536, 2048, 2560} < set(filled)  # widths of networks and of features


def by_head(rows: Tensor) -> Tensor:
    """Views [4, N, d] of rows [N, 4 d]: each matrix is a part of wider rows."""
    return rows.unflatten(1, (4, -1)).transpose(0, 1)


@pytest.mark.parametrize("is_part", [True, False])
def test_several_products_are_each_its_own(choice: bool, is_part: bool, used: list[int]) -> None:
    left, right = (by_head(torch.randn(N, 4 * 16)) if is_part else torch.randn(4, N, 16) for _ in range(2))
    exact, total = left.double() @ right.double().mT, torch.randn(4, N, N)
    out = torch.empty(4, N, N)
    assert bmm(left, right.mT, out=out) is out
    for own, expected in (
        (bmm(left, right.mT), exact),
        (out.clone(), exact),
        (bmm(right.mT, left), right.double().mT @ left.double()),
        (baddbmm(total, left, right.mT, alpha=0.25), total.double() + exact / 4),
        (baddbmm(total[0], left, right.mT, alpha=-1), total[0].double() - exact),
        (baddbmm(out, left, right.mT, out=out), 2 * exact),
    ):
        torch.testing.assert_close(own.double(), expected, atol=1e-3, rtol=1e-5)
    assert len(used) == (5 * 4 if choice else 0)  # the third is small


@pytest.mark.parametrize("n", [1, 37, N])
def test_products_with_the_same_rows_are_each_its_own(choice: bool, n: int, used: list[int]) -> None:
    x, weights, biases, left = (torch.randn(*shape) for shape in ((n, D), (2, O, D), (2, O), (2, n, O)))
    totals, spare = torch.randn(2, O, D), torch.full((2, O, D), torch.nan)
    before, out = totals.clone(), torch.full((2, n, O), torch.nan)
    made = affine_of_each(x, weights, biases, out=out)
    assert made.data_ptr() == out.data_ptr()
    assert add_outer_of_each(totals, left, x) is totals
    add_outer_of_each(spare, left, x, is_first=True)
    for g in range(2):
        rows = x.double() @ weights[g].double().T + biases[g].double()
        product = left[g].double().T @ x.double()
        torch.testing.assert_close(out[g].double(), rows, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(spare[g].double(), product, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(totals[g].double(), before[g].double() + product, rtol=1e-5, atol=1e-4)
    assert bool(used) == (choice and n == N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_of_rows_is_that_of_torch(dtype: torch.dtype) -> None:
    rows = torch.randn(N, D, dtype=dtype)
    torch.testing.assert_close(sum_of_rows(rows), rows.sum(dim=0), rtol=1e-5, atol=1e-4)
    assert torch.equal(sum_of_rows(rows[:1]), rows[0])
    rows[3, 5], rows[4, 6] = torch.nan, torch.inf
    found = sum_of_rows(rows)
    assert found[5].isnan()
    assert found[6] == torch.inf
    assert found.isfinite().sum() == D - 2


@pytest.mark.parametrize("shape", [(N, D), (7, 100, D), (5, D), (1, D), (0, D), (D,)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_torchs_with_its_gradients(choice: bool, shape: tuple[int, ...], bias: bool) -> None:
    ours, theirs = Linear(D, O, bias=bias), nn.Linear(D, O, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = layer(x)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())])
    for own, their in zip(*results, strict=True):
        assert own.shape == their.shape
        torch.testing.assert_close(own, their, atol=1e-2, rtol=1e-5)  # of sums over hundreds of rows


@pytest.mark.parametrize("n", [36, 40, 1000, 1024, 3000])
def test_a_layer_behind_it_may_work_in_place(choice: bool, n: int) -> None:
    x, layer = torch.randn(n, 1024), Linear(1024, 128)
    expected = layer(x).relu()
    found = nn.Sequential(layer, nn.ReLU(inplace=True))(x)
    assert torch.equal(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), layer.weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), layer.weight)[0])


def test_only_what_is_wanted_gets_a_gradient(choice: bool) -> None:
    x, weight = torch.randn(N, D), torch.randn(O, D, requires_grad=True)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(dim=0).expand(O, -1), atol=1e-3, rtol=1e-4)
    assert x.grad is None


def test_gradients_of_gradients_are_whole(choice: bool) -> None:
    x, weight = torch.randn(N, D, requires_grad=True), torch.randn(O, D, requires_grad=True)
    (first,) = torch.autograd.grad(linear(x, weight).pow(3).sum(), x, create_graph=True)
    found = torch.autograd.grad(first.square().mean(), (x, weight))
    (first,) = torch.autograd.grad(nn.functional.linear(x, weight).pow(3).sum(), x, create_graph=True)
    for own, their in zip(found, torch.autograd.grad(first.square().mean(), (x, weight)), strict=True):
        torch.testing.assert_close(own, their, rtol=1e-3, atol=1e-3 * float(their.abs().max()))


def test_the_same_product_has_the_same_bits(choice: bool) -> None:
    x, weight, bias = torch.randn(N, D), torch.randn(O, D), torch.randn(O)
    assert torch.equal(affine(x, weight, bias), affine(x.clone(), weight.clone(), bias.clone()))
    assert torch.equal(outer(x, x), outer(x.clone(), x.clone()))


@pytest.mark.parametrize("choice", [True], indirect=True)
def test_small_wide_stacked_counted_and_half_products_stay_with_torch(choice: bool, used: list[int]) -> None:
    x, weight = torch.randn(N, D), torch.randn(O, D)
    linear(x[:40], weight), linear(x, weight[:4]), linear(x.double(), weight.double())
    vmap(linear)(x.expand(2, -1, -1), weight.expand(2, -1, -1))
    with torch.autocast("cpu", torch.bfloat16):
        linear(x, weight)
    with FlopCounterMode(display=False) as counter:
        linear(x, weight)
    assert counter.get_total_flops() == 2 * N * D * O
    assert not used
    linear(x, weight)
    assert used


@pytest.mark.parametrize(
    ("text", "platform_says", "expected"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\n", "", True),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n", "", False),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", "", False),
        (None, "AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD", True),
        (None, "arm", False),
    ],
)
def test_an_amd_processor_is_known_by_what_the_system_says(
    text, platform_says, expected, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "processor", lambda: platform_says)
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    processor._vendor.cache_clear()
    try:
        assert processor.is_amd() == expected
    finally:
        processor._vendor.cache_clear()
