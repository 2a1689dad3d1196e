"""The fused pooling equals the plain one. Without a GPU, triton's interpreter runs its kernels: `tox -e triton`."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from places import ROOT
from torch import Tensor, nn
from torch.func import vmap

from milbench.errors import UsageError
from milbench.kernels import check_kernels, has_triton, kernels, wants_fused_kernels
from milbench.training.precision import arithmetic, float32_products
from milbench_baselines.layers import gated_pooling as module
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.gated_pooling import fused_pooling, gated_pooling, goes_fused
from milbench_baselines.layers.mp_amil import MPAMIL

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if IS_INTERPRETED or not torch.cuda.is_available() else "cuda")
needs_triton = pytest.mark.skipif(
    not has_triton() or not (IS_INTERPRETED or DEVICE.type == "cuda"),
    reason="needs triton, and a GPU or TRITON_INTERPRET=1: tox -e triton",
)

CASES = {
    "one patch": (1, 1, 8, 3),
    "one expert, beyond a block in all sizes": (1, 131, 40, 70),
    "five experts": (5, 70, 24, 20),
    "whole blocks": (2, 64, 32, 64),
}
"""Experts, patches, width of the rows, width of the attention."""

Pooling = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _ieee() -> Iterator[None]:
    with float32_products("float32"):
        yield


def made(e: int, n: int, width: int, attention: int, p: float = 0.0) -> tuple[nn.ModuleList, Tensor]:
    """Attentions, and rows [E, N, H] as experts have them: those of a patch side by side in memory."""
    torch.manual_seed(0)
    attentions = nn.ModuleList(GatedAttention(width, attention, dropout=p) for _ in range(e))
    for parameter in attentions.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attentions.to(DEVICE), torch.randn(n, e, width).to(DEVICE).transpose(0, 1)


def found(
    pooling: Pooling, attentions: nn.ModuleList, h: Tensor, *, of: tuple[bool, bool] = (True, True)
) -> list[Tensor]:
    """Pooled rows and scores, then the gradients of rows and weights; `of` says which of the two have one."""
    h = h.detach().clone().requires_grad_()
    torch.manual_seed(1)
    outputs = pooling(list(attentions), h)
    torch.manual_seed(2)
    factors = [torch.randn(output.shape).to(output) for output in outputs]
    total = sum((f * output).sum() for f, output, wanted in zip(factors, outputs, of, strict=True) if wanted)
    wanted = [h, *attentions.parameters()]
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)  # type: ignore[arg-type]
    return [*outputs, *(torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True))]


def largest_difference(these: list[Tensor], those: list[Tensor]) -> float:
    """Largest difference of any two tensors, beside the largest entry of the second, or beside 1 if that is less."""
    pairs = zip(these, those, strict=True)
    return max(((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)).item() for a, b in pairs)


@needs_triton
@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_plain_form_in_float64(case: str, p: float) -> None:
    attentions, h = made(*CASES[case], p)
    fused = found(fused_pooling, attentions, h)
    plain = found(gated_pooling, attentions, h)
    exact = found(gated_pooling, copy.deepcopy(attentions).double(), h.double())
    assert largest_difference(fused, exact) < max(2 * largest_difference(plain, exact), 2e-6)
    assert all(tensor.isfinite().all() for tensor in fused)


@needs_triton
@pytest.mark.parametrize("of", [(True, False), (False, True)])
def test_one_result_alone_may_have_a_gradient(of: tuple[bool, bool]) -> None:
    attentions, h = made(2, 70, 24, 20)
    exact = found(gated_pooling, copy.deepcopy(attentions).double(), h.double(), of=of)
    assert largest_difference(found(fused_pooling, attentions, h, of=of), exact) < 2e-6


@needs_triton
def test_the_same_seed_gives_the_same_bits() -> None:
    attentions, h = made(5, 131, 40, 20, 0.25)
    assert all(map(torch.equal, found(fused_pooling, attentions, h), found(fused_pooling, attentions, h)))


@needs_triton
def test_more_blocks_than_are_merged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attentions, h = made(2, 131, 24, 20)
    at_once = found(fused_pooling, attentions, h)
    monkeypatch.setattr(module, "MERGED", 2)
    assert largest_difference(found(fused_pooling, attentions, h), at_once) < 1e-6


@needs_triton
def test_a_softmax_that_one_patch_takes_alone() -> None:
    attentions, h = made(2, 131, 24, 20)
    with torch.no_grad():
        for each in attentions:
            each.score.weight.mul_(30)
    exact = found(gated_pooling, copy.deepcopy(attentions).double(), h.double())
    assert exact[1].softmax(dim=1).max() > 0.999
    assert largest_difference(found(fused_pooling, attentions, h), exact) < 2e-5


@needs_triton
def test_tanh_has_its_digits_near_zero_too() -> None:
    attentions, _ = made(1, 1, 1, 1)
    weights = {"tanh_branch": 1.0, "sigmoid_branch": 0.0, "score": 2.0}  # so that a score is tanh(h)
    with torch.no_grad():
        for name, weight in weights.items():
            getattr(attentions[0], name).weight.fill_(weight)
            getattr(attentions[0], name).bias.zero_()
    h = torch.logspace(-6, 1.3, 100).to(DEVICE)
    h = torch.cat([h, -h])
    _, scores = fused_pooling(list(attentions), h[None, :, None])
    torch.testing.assert_close(scores[0].double(), h.double().tanh(), rtol=4e-7, atol=0)


@needs_triton
def test_a_gradient_of_gradients_is_refused_rather_than_wrong() -> None:
    attentions, h = made(1, 5, 8, 3)
    pooled, _ = fused_pooling(list(attentions), h.requires_grad_())
    (gradient,) = torch.autograd.grad((pooled**2).sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="no gradient of a gradient"):
        gradient.sum().backward()


@needs_triton
def test_rows_may_lie_in_memory_in_any_way() -> None:
    attentions, h = made(2, 70, 24, 20)
    turned = h.mT.contiguous().mT
    assert turned.stride(2) != 1
    assert all(map(torch.equal, found(fused_pooling, attentions, turned), found(fused_pooling, attentions, h)))


@needs_triton
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("e", [1, 3])
@pytest.mark.parametrize("kind", [AttentionExpert, MPAMIL])
def test_experts_with_it_are_experts_without_it(
    monkeypatch: pytest.MonkeyPatch, kind: Any, e: int, precision: str
) -> None:
    torch.manual_seed(0)
    experts = nn.ModuleList(kind(12, hidden=64, attention=20) for _ in range(e)).to(DEVICE)
    features = torch.randn(70, 12).to(DEVICE)
    used: list[Tensor] = []

    def results(*, fused: bool) -> list[Tensor]:
        for name in ("attention_expert", "mp_amil", "gated_pooling"):
            layers = sys.modules[f"milbench_baselines.layers.{name}"]
            monkeypatch.setattr(layers, "goes_fused", lambda h, *_: used.append(h) or True if fused else False)
        torch.manual_seed(1)
        with arithmetic(precision, DEVICE):
            outputs = kind.of_all(list(experts), features) if e > 1 else experts[0](features)
        assert {output.dtype for output in outputs} == {torch.float32}
        torch.manual_seed(2)
        total = sum((torch.randn(output.shape).to(output) * output).sum() for output in outputs)
        return [*outputs, *torch.autograd.grad(total, list(experts.parameters()))]

    plain, fused = results(fused=False), results(fused=True)
    assert used
    assert largest_difference(fused, plain) < (2e-6 if precision == "float32" else 0.02)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus_and_float32_stays_float32(capability: int) -> None:
    """To a GPU's own code, which needs no GPU. Tensor cores multiply where TF32 or bfloat16 is allowed, else none does."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(ROOT / "tests/support/compiled_pooling.py"), str(capability)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    compiled = json.loads(said.stdout)
    assert len(compiled) == 7
    for name, facts in compiled.items():
        assert facts["bytes"] > 0, name
        assert (facts["tensor_core_products"] > 0) == ("tf32" in name or "bf16" in name), name
        assert facts["shared_bytes"] <= 99 * 1024, name  # what a block may have on the smallest of today's cards


# ---- what needs no triton ------------------------------------------------------------------------


def rows_on_a_gpu(dtype: torch.dtype = torch.float32) -> Any:
    return SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device("cuda"))


def test_it_is_used_only_where_it_is_switched_on_and_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[bool] = []
    monkeypatch.setattr(module, "has_triton", lambda: True)
    assert not goes_fused(rows_on_a_gpu())
    with kernels("fused"):
        assert goes_fused(rows_on_a_gpu())
        assert goes_fused(rows_on_a_gpu(torch.bfloat16))
        assert not goes_fused(rows_on_a_gpu(torch.float64))
        assert not goes_fused(torch.zeros(1, 3, 4))
        assert goes_fused(rows_on_a_gpu(), Dropout(0.2))
        assert not goes_fused(rows_on_a_gpu(), nn.Dropout(0.2))
        vmap(lambda x: [x, answers.append(goes_fused(rows_on_a_gpu()))][0])(torch.zeros(2))
        assert answers == [False]
        monkeypatch.setattr(module, "has_triton", lambda: False)
        assert not goes_fused(rows_on_a_gpu())


def test_without_a_gpu_the_setting_changes_no_bit() -> None:
    attentions, h = made(3, 9, 8, 4, 0.25)
    if h.is_cuda:
        pytest.skip("there is a GPU")
    plain = found(gated_pooling, attentions, h)
    with kernels("fused"):
        assert all(map(torch.equal, found(gated_pooling, attentions, h), plain))


def test_the_choice_ends_with_its_block() -> None:
    assert not wants_fused_kernels()
    with kernels("fused"):
        assert wants_fused_kernels()
    assert not wants_fused_kernels()
    with pytest.raises(UsageError), kernels("fused"):
        raise UsageError("a model's own")
    assert not wants_fused_kernels()


def test_a_gpu_without_triton_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.kernels.has_triton", lambda: False)
    check_kernels("plain", "cuda")
    check_kernels("fused", "cpu")
    with pytest.raises(UsageError, match=r"pip install 'milbench\[gpu\]'"):
        check_kernels("fused", "cuda")
