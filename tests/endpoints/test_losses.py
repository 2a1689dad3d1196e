"""Losses and gradients of every kind against official code and torch, alone and under vmap."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from places import GOLDEN
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss
from torch.nn.functional import cross_entropy as torch_cross_entropy

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.losses import corn, cross_entropy, discrete_nll, task_losses
from milbench.endpoints.outputs import Outputs

NLL = np.load(GOLDEN / "endpoints" / "nll_discrete.npz")
CORN = np.load(GOLDEN / "endpoints" / "corn_coral.npz")
ALPHAS = [0.0, 0.15, 0.4, 0.5, 1.0]
UNSATURATED = 9
"""Rows of the golden from here on are saturated: the official clamp acts."""

GRADES = Endpoint("ordinal", ("a", "b", "c", "d"))
EVERY_LOSS = [
    FittedEndpoint(),
    FittedEndpoint(Endpoint("multiclass", ("a", "b", "c", "d", "e")), "ce"),
    FittedEndpoint(GRADES, "ce"),
    FittedEndpoint(GRADES, "corn"),
    FittedEndpoint(GRADES, "l1"),
    FittedEndpoint(Endpoint("regression"), "huber"),
    FittedEndpoint(Endpoint("regression"), "l1"),
    FittedEndpoint(Endpoint("regression"), "mse"),
    FittedEndpoint(Endpoint("survival"), "nll", edges=(1.0, 2.0, 3.0)),
    FittedEndpoint(Endpoint("survival"), "nll", edges=(1.0, 2.0), alpha=0.4, eps=1e-7),
    FittedEndpoint(Endpoint("survival"), "cox"),
]
TARGETS = [1.0, 4.0, 2.0, 3.0, 2.0, -0.7, 1.9, 0.3, -4.0, 2.0, -0.25]


def nll_targets() -> Tensor:
    number = torch.from_numpy(NLL["bin"] + 1.0)
    return torch.where(torch.from_numpy(NLL["censored"]) == 1, -number, number)


def value_and_gradient(of_rows: Callable[[Tensor], Tensor], logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each row, and d mean / d logits."""
    leaf = torch.from_numpy(logits).requires_grad_()
    rows = of_rows(leaf)
    return rows.detach().numpy(), torch.autograd.grad(rows.mean(), leaf)[0].numpy()


def nll(*, alpha: float = 0.0, eps: float = 0.0) -> Callable[[Tensor], Tensor]:
    return lambda logits: vmap(lambda z, y: discrete_nll(z, y, alpha=alpha, eps=eps))(logits, nll_targets())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.35])
def test_smoothed_labels_have_torchs_loss(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(2)
    binary, classes, grades = EVERY_LOSS[:3]
    logits = torch.randn(7, 10, generator=generator).double()
    targets = torch.tensor([1.0, 3.0, 2.0]).double()
    found = task_losses(Outputs([binary, classes, grades]), logits, targets, smoothing=smoothing)
    of_two_classes = torch.stack([torch.zeros(7), logits[:, 0]], dim=1)
    for place, z in enumerate((of_two_classes, logits[:, 1:6], logits[:, 6:])):
        label = targets[place].long().expand(7)
        expected = torch_cross_entropy(z, label, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(found[:, place], expected, rtol=1e-12, atol=1e-12)
    alone = task_losses(Outputs.of(1), logits[:, :1], targets[:1], smoothing=smoothing)
    torch.testing.assert_close(alone[:, 0], found[:, 0], rtol=1e-12, atol=0)


def test_losses_that_are_no_cross_entropy_of_classes_are_not_smoothed() -> None:
    outputs = Outputs(EVERY_LOSS[3:])
    logits = torch.linspace(-2, 2, int(outputs)).double()
    targets = torch.tensor(TARGETS[3:]).double()
    usual, smoothed = (task_losses(outputs, logits, targets, smoothing=amount) for amount in (0.0, 0.3))
    assert torch.equal(usual, smoothed)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_clamped_nll_is_that_of_five_official_codes(alpha: float) -> None:
    rows, gradient = value_and_gradient(nll(alpha=alpha, eps=float(NLL["eps"])), NLL["logits"])
    np.testing.assert_allclose(rows, NLL[f"loss_per_sample_alpha{alpha}"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.mean(), NLL[f"loss_alpha{alpha}"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient, NLL[f"grad_alpha{alpha}"], rtol=0, atol=1e-15)


def test_the_clamped_nll_in_float32_rounds_as_the_official_codes() -> None:
    rows, gradient = value_and_gradient(nll(eps=float(NLL["eps"])), NLL["logits"].astype(np.float32))
    np.testing.assert_allclose(rows.mean(), NLL["float32_loss_alpha0.0"], rtol=2e-7)
    np.testing.assert_allclose(gradient, NLL["float32_grad_alpha0.0"], rtol=0, atol=1e-8)


def test_the_nll_in_log_space_is_that_of_pycox() -> None:
    rows, gradient = value_and_gradient(nll(), NLL["logits"])
    np.testing.assert_allclose(rows.mean(), NLL["pycox_logistic_hazard_loss"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient, NLL["pycox_logistic_hazard_grad"], rtol=0, atol=1e-15)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_nll_in_log_space_differs_from_the_clamped_one_in_saturated_rows_alone(alpha: float) -> None:
    (exact, of_exact), (clamped, of_clamped) = (
        value_and_gradient(nll(alpha=alpha, eps=eps), NLL["logits"]) for eps in (0.0, 1e-7)
    )
    np.testing.assert_allclose(exact[:UNSATURATED], clamped[:UNSATURATED], rtol=1e-12)
    np.testing.assert_allclose(of_exact[:UNSATURATED], of_clamped[:UNSATURATED], rtol=0, atol=1e-15)
    assert exact[UNSATURATED:].max() > clamped[UNSATURATED:].max() + 1


def test_a_clamped_factor_has_no_gradient_and_the_others_keep_theirs() -> None:
    logits = torch.tensor([20.0, 1.0, 0.0], dtype=torch.float64)
    target = torch.tensor(2.0)  # S_1 is clamped, h_2 is not
    clamped = grad(lambda z: discrete_nll(z, target, eps=1e-7))(logits)
    exact = grad(lambda z: discrete_nll(z, target))(logits)
    assert clamped[0] == 0 < exact[0]
    assert clamped[1] == pytest.approx(exact[1].item(), rel=1e-12)
    assert discrete_nll(logits, target, eps=1e-7).item() == pytest.approx(-np.log(1e-7) - np.log(1 / (1 + np.exp(-1))))


@pytest.mark.parametrize("extreme", [-200.0, 200.0])
def test_the_nll_in_log_space_stays_finite_in_float32(extreme: float) -> None:
    logits = torch.full((4,), extreme)
    for target in (1.0, 4.0, -1.0, -4.0):
        value = discrete_nll(logits, torch.tensor(target))
        gradient = grad(lambda z, y=target: discrete_nll(z, torch.tensor(y)))(logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_corn_is_the_official_loss_of_a_batch_of_one_but_for_its_divisor() -> None:
    asked = np.minimum(CORN["y"] + 1, 5)  # thresholds k with y >= k: the official divisor; ours is C - 1
    rows, _ = value_and_gradient(lambda z: vmap(corn)(z, torch.from_numpy(CORN["y"])), CORN["logits"])
    np.testing.assert_allclose(rows * 5 / asked, CORN["corn_loss_batch_of_one"], rtol=0, atol=1e-12)


def test_the_sum_of_corn_over_a_batch_is_the_official_sum() -> None:
    pairs = np.minimum(CORN["y"] + 1, 5).sum()
    rows, gradient = value_and_gradient(lambda z: vmap(corn)(z, torch.from_numpy(CORN["y"])), CORN["logits"])
    np.testing.assert_allclose(rows.sum() * 5 / pairs, CORN["corn_loss"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient * len(rows) * 5 / pairs, CORN["corn_grad"], rtol=0, atol=1e-15)


def test_cross_entropy_is_that_of_torch() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 30
    places = torch.from_numpy(np.arange(20) % 6)
    ours = value_and_gradient(lambda z: vmap(cross_entropy)(z, places.double()), logits)
    theirs = value_and_gradient(lambda z: torch_cross_entropy(z, places, reduction="none"), logits)
    for mine, torchs in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, torchs, rtol=0, atol=1e-12)


def of_one(endpoint: FittedEndpoint, logits: Tensor, target: float) -> Tensor:
    return task_losses(
        Outputs([endpoint, FittedEndpoint(loss="mse")]), torch.cat([logits, logits[:1]]), torch.tensor([target, 0.0])
    )[0]


def test_single_logits_have_the_losses_of_their_names() -> None:
    z, y = torch.tensor([0.3]), 2.5
    score = Endpoint("regression")
    expected = {"huber": 2.2 - 0.5, "l1": 2.2, "mse": 2.2**2}
    for loss, value in expected.items():
        assert of_one(FittedEndpoint(score, loss), z, y).item() == pytest.approx(value)
    assert of_one(FittedEndpoint(score, "huber"), z, 0.5).item() == pytest.approx(0.2**2 / 2)
    assert of_one(FittedEndpoint(GRADES, "l1"), z, 2.0).item() == pytest.approx(1.7)
    assert of_one(FittedEndpoint(), z, 1.0).item() == pytest.approx(
        binary_cross_entropy_with_logits(z, torch.ones(1)).item()
    )
    assert of_one(FittedEndpoint(score, "huber"), z, y) == huber_loss(z, torch.tensor([y]))


def test_the_gradient_of_a_cox_task_is_its_target() -> None:
    cox = FittedEndpoint(Endpoint("survival"), "cox")
    assert grad(lambda z: of_one(cox, z, -0.4))(torch.tensor([3.0])).item() == pytest.approx(-0.4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_bags_and_many_models_have_the_losses_of_each_alone(dtype: torch.dtype) -> None:
    outputs = Outputs(EVERY_LOSS)
    logits = torch.randn(3, 5, int(outputs), dtype=dtype, generator=torch.Generator().manual_seed(0))  # [S, B, W]
    targets = torch.tensor(TARGETS, dtype=dtype).expand(3, 5, -1)
    together = vmap(vmap(lambda z, y: task_losses(outputs, z, y)))(logits, targets)
    gradients = vmap(vmap(grad(lambda z, y: task_losses(outputs, z, y).sum())))(logits, targets)
    assert together.shape == (3, 5, len(EVERY_LOSS))
    assert together.dtype == dtype
    for s in range(3):
        for b in range(5):
            leaf = logits[s, b].clone().requires_grad_()
            alone = task_losses(outputs, leaf, targets[s, b])
            torch.testing.assert_close(together[s, b], alone.detach())
            torch.testing.assert_close(gradients[s, b], torch.autograd.grad(alone.sum(), leaf)[0])
    torch.testing.assert_close(task_losses(outputs, logits, targets[0, 0]), together)  # several answers to one bag


def test_an_unknown_label_of_any_finite_number_has_a_finite_loss_and_gradient() -> None:
    outputs = Outputs(EVERY_LOSS)
    gradient = grad(lambda z: (task_losses(outputs, z, torch.zeros(len(EVERY_LOSS))) * 0).sum())(
        torch.zeros(int(outputs))
    )
    assert (gradient == 0).all()
