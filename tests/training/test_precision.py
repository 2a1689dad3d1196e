"""Arithmetic by name: what is rounded, what stays float32, and that nothing of it outlives the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from layouts_for_tests import answer
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from milbench.errors import UsageError
from milbench.models import BagOutput, MILModel
from milbench.registry import load_models
from milbench.training import precision
from milbench.training.optimizers import make_optimizer
from milbench.training.precision import THIN, arithmetic, as_float32, bags_in_float32, check_precision, float32_products
from milbench.trials.arguments import constructor_arguments
from milbench.trials.recipe import Recipe
from milbench_baselines.layers.dropout import Dropout

CPU = torch.device("cpu")
SMALL = {"hidden": 32, "attention": 32, "landmarks": 8, "heads": 2}
WIDER = {"hidden": 128, "attention": 64, "landmarks": 64, "heads": 2}
"""Sizes at which no part of a layer is thin, heads neither."""
MODELS = {name: model for name, model in load_models().items() if model.__module__.startswith("milbench_baselines")}

GRADIENT_BOUND = 0.05
"""Relative l2 error of all gradients together.

One bfloat16 rounding errs by at most 2^-9 = 0.002. Gradients pass about ten of them one after the other, with a
small loss of digits where terms cancel: a few per cent. A wrong dtype or a lost scale would be off by 1 or more.
"""


def make(name: str, sizes: Mapping[str, int] = SMALL) -> MILModel:
    """A small copy in train mode without dropout, so that two passes differ in arithmetic alone."""
    model = MODELS[name]
    known = constructor_arguments(model)
    torch.manual_seed(0)
    built = model(64, 3 if model.info.tasks == "multi" else 1, **{k: v for k, v in sizes.items() if k in known})
    for module in built.modules():
        if isinstance(module, (torch.nn.Dropout, Dropout)):
            module.p = 0.0
    return built.train()


def bag() -> Tensor:
    return torch.randn(40, 64, generator=torch.Generator().manual_seed(1))


def step(model: MILModel, name: str) -> tuple[Tensor, Tensor]:
    """Loss and all gradients [P] of one step."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(2)  # the order of DTFD-MIL's pseudo-bags
    with arithmetic(name, CPU):
        output = answer(model, bag())
    targets = torch.ones(model.n_tasks)
    loss = model.loss(as_float32(output), targets, torch.ones_like(targets))
    loss.backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", MODELS)
def test_a_bf16_step_gives_float32_gradients_near_those_of_float32(name: str) -> None:
    model = make(name)
    exact_loss, exact = step(model, "float32")
    loss, gradients = step(model, "bf16")
    assert loss.dtype == gradients.dtype == torch.float32
    with arithmetic("bf16", CPU):
        assert answer(model, bag()).logits.dtype == torch.float32, "three digits would tie bags that differ"
    assert torch.isfinite(gradients).all()
    # max pooling's gradient passes one patch, too thin a product to be rounded
    assert torch.equal(gradients, exact) == (name == "max_pooling")
    assert float((gradients - exact).norm() / exact.norm()) < GRADIENT_BOUND
    assert float(loss) == pytest.approx(float(exact_loss), rel=0.05)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_a_bf16_step_takes_models_without_thin_layers_too(name: str) -> None:
    """A product that is thin comes as float32 and meets bfloat16 in the next one, which need not be thin."""
    model = make(name, WIDER)
    _, exact = step(model, "float32")
    _, gradients = step(model, "bf16")
    assert float((gradients - exact).norm() / exact.norm()) < GRADIENT_BOUND


@contextmanager
def softmax_dtypes() -> Iterator[list[torch.dtype]]:
    """Dtypes that the softmax kernels really got."""
    seen: list[torch.dtype] = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket in (torch.ops.aten._softmax, torch.ops.aten._log_softmax, torch.ops.aten.logsumexp):
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Spy():
        yield seen


@pytest.mark.parametrize("name", [name for name in MODELS if "pooling" not in name])
def test_every_softmax_of_a_model_gets_float32(name: str) -> None:
    model = make(name)
    with softmax_dtypes() as seen:
        step(model, "bf16")
    assert seen
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    "softmax",
    [
        lambda x: torch.softmax(x, 0), lambda x: torch.softmax(input=x, dim=0), lambda x: x.softmax(0),
        torch.nn.Softmax(0), lambda x: torch.nn.functional.softmax(x, dim=0), torch.nn.Softmin(0),
        lambda x: torch.log_softmax(x, 0), lambda x: x.log_softmax(0), torch.nn.LogSoftmax(0),
        lambda x: torch.logsumexp(x, 0), lambda x: x.logsumexp(0),
    ],
)  # fmt: skip
def test_softmax_is_computed_from_float32_however_it_is_called(softmax) -> None:
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0)).bfloat16()
    with bags_in_float32():
        result = softmax(scores)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, softmax(scores.float()), rtol=0, atol=0)
    assert softmax(scores).dtype == torch.bfloat16


def test_products_are_bfloat16_inside_and_float32_outside() -> None:
    a = torch.randn(THIN, THIN)
    with arithmetic("bf16", CPU):
        assert (a @ a).dtype == torch.bfloat16
    assert (a @ a).dtype == torch.float32
    assert torch.softmax(a.bfloat16(), 0).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "pooled",
    [
        lambda h: torch.ones(len(h), dtype=torch.bfloat16) @ h, lambda h: torch.matmul(h.T[:, :9].T, h),
        lambda h: h.mean(dim=0), lambda h: torch.sum(h, dim=0), lambda h: h @ h[0],
        lambda h: torch.nn.functional.linear(h[:3], h), lambda h: torch.nn.functional.linear(h, h[:1]),
        lambda h: torch.bmm(h[None, :5], h[None]), lambda h: torch.mm(input=h[:5], mat2=h),
    ],
)  # fmt: skip
def test_what_pools_or_scores_patches_is_computed_in_float32(pooled) -> None:
    h = torch.randn(THIN, THIN, generator=torch.Generator().manual_seed(0)).bfloat16()
    with arithmetic("bf16", CPU):
        result = pooled(h)
    assert result.dtype == torch.float32
    assert not torch.equal(result, pooled(h).float()), "the same numbers in bfloat16 would be rounded"


def test_a_pooled_bag_keeps_the_digits_that_tell_bags_apart() -> None:
    """One patch of 1,000 moves a mean by less than bfloat16 can tell."""
    model = make("mean_pooling").eval()
    features = torch.ones(1000, 64)
    other = features.clone()
    other[0] += 1
    with arithmetic("bf16", CPU), torch.no_grad():
        assert model(features).logits != model(other).logits


def test_stacked_copies_in_bf16_give_the_gradients_of_each_alone() -> None:
    models = [make("amil") for _ in range(3)]
    for shift, model in enumerate(models):
        for parameter in model.parameters():
            parameter.data.add_(0.01 * shift)
    weights, buffers = stack_module_state(models)
    features = bag()

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        with arithmetic("bf16", CPU):
            output = functional_call(models[0], (weights, buffers), (features,))
        assert output.attention.dtype == torch.float32
        return models[0].loss(as_float32(output), torch.ones(1), torch.ones(1))

    stacked = vmap(grad(loss))(weights, buffers)
    assert {gradient.dtype for gradient in stacked.values()} == {torch.float32}
    for index, model in enumerate(models):
        alone = step(model, "bf16")[1]
        together = torch.cat([stacked[name][index].flatten() for name, _ in model.named_parameters()]).detach()
        # batched products round in another order, so the bound is that between precisions
        assert float((together - alone).norm() / alone.norm()) < GRADIENT_BOUND


def test_the_optimiser_keeps_its_state_in_float32() -> None:
    model = make("amil")
    optimizer = make_optimizer(dict(model.named_parameters()), Recipe())
    step(model, "bf16")
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert tensors
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_an_output_becomes_float32_and_whole_numbers_stay() -> None:
    half = torch.ones(2, dtype=torch.bfloat16)
    output = as_float32(BagOutput(half, None, {"scores": half, "chosen": torch.tensor([3])}))
    assert (output.logits.dtype, output.aux["scores"].dtype) == (torch.float32, torch.float32)
    assert output.attention is None
    assert output.aux["chosen"].dtype == torch.int64
    assert as_float32(BagOutput(half, half[None], {})).attention.dtype == torch.float32


def flags() -> tuple[object, ...]:
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize(("name", "allowed"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_allowed_by_tf32_alone(name: str, *, allowed: bool) -> None:
    with float32_products(name):
        assert flags()[:2] == (allowed, allowed)


@pytest.mark.parametrize("name", precision.PRECISIONS)
@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_former_flags_come_back_also_after_an_error(name: str, before: str) -> None:
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        former = flags()
        with arithmetic(name, CPU):
            pass
        assert flags() == former
        with pytest.raises(ZeroDivisionError), arithmetic(name, CPU):
            raise ZeroDivisionError
        assert flags() == former
        assert torch.softmax(torch.ones(2).bfloat16(), 0).dtype == torch.bfloat16
    finally:
        torch.set_float32_matmul_precision(usual)


def test_an_unknown_precision_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown precision 'bf-16'\. Did you mean 'bf16'\?"):
        check_precision("bf-16", CPU)


def test_tf32_on_a_cpu_is_refused_with_the_mend() -> None:
    with pytest.raises(
        UsageError, match=r"this CPU: TF32 exists on NVIDIA GPUs .* >= 8 only\. Use --precision float32"
    ):
        check_precision("tf32", CPU)


@pytest.mark.parametrize(("capability", "accepted"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_tf32_and_fast_bf16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], *, accepted: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    gpu = torch.device("cuda", 0)
    assert (check_precision("bf16", gpu) == "") == accepted
    if accepted:
        assert check_precision("tf32", gpu) == ""
    else:
        with pytest.raises(UsageError, match="Some GPU"):
            check_precision("tf32", gpu)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bf16_is_accepted_in_silence_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flag: str
) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    assert check_precision("bf16", CPU) == ""  # a system that doesn't tell
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu avx2 {flag}\n")
    assert check_precision("bf16", CPU) == ""


def test_bf16_on_a_processor_without_it_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx2 avx512f\n")
    assert "hundreds of times slower" in check_precision("bf16", CPU)
    assert check_precision("float32", CPU) == ""
