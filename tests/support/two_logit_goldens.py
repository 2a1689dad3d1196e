"""Golden vectors of official codes with two logits, against models whose answer is their difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from golden_rules import Golden
from torch import Tensor

from milbench.models import BagOutput, MILModel

Load = Callable[[dict[str, Tensor]], MILModel]
Part = Callable[[BagOutput], Tensor]

SUFFIX = {torch.float32: ("", ""), torch.float64: ("64", "_f64")}
OF_GRADIENTS = {torch.float32: 3e-4, torch.float64: 1e-10}  # WiKG: 1.3e-4 by one library of products, 0.2e-4 by another
"""Tolerances of gradients, of the largest l2. The official float32 gradients are up to 4e-5 from their own float64 ones."""


def assert_official(
    golden: Golden, load: Load, dtype: torch.dtype, tolerance: float, parts: Mapping[str, Part] | None = None
) -> None:
    """Outputs, losses and gradients of every N and variant of the file, as far as the file has them.

    Parameters
    ----------
    tolerance : of outputs and losses, as a fraction of the largest entry, which counts as at least 1.
    parts : other parts of the output, by the file's key.
    """
    model, names = load(golden.state_dict()).to(dtype), golden.official_names(load)
    sizes = [n for n in golden.meta["Ns"] if f"y/{n}" in golden.arrays]
    assert len(sizes) >= 4
    for n in sizes:
        output = model(golden.bag(n).to(dtype))
        _assert_outputs(golden, output, n, tolerance, parts or {})
        for variant in golden.meta["variants"]:
            loss = _loss(golden, model, output, variant)
            _assert_loss(golden, output, loss, (f"{variant}/" if variant else "") + str(n), tolerance)
            if n in golden.meta["grad_Ns"]:
                tag = (f"{variant}/" if variant else "") + f"{n}{SUFFIX[dtype][1]}"
                gradients = _gradients(model, loss, names)
                assert golden.gradient_error(tag, gradients) < OF_GRADIENTS[dtype]


def _assert_outputs(golden: Golden, output: BagOutput, n: int, tolerance: float, parts: Mapping[str, Part]) -> None:
    suffix = SUFFIX[output.logits.dtype][0]
    y = golden[f"y{suffix}/{n}"].flatten()
    _assert_near(output.aux["head_logits"], y, tolerance)
    _assert_near(output.logits, y[1:] - y[:1], 2 * tolerance)
    for key, part in parts.items():
        _assert_near(part(output), golden[f"{key}{suffix}/{n}"], tolerance)


def _loss(golden: Golden, model: MILModel, output: BagOutput, variant: str) -> Tensor:
    is_probe = variant == "probe" or golden.meta["loss"].startswith("main is the probe")
    return _probe(output) if is_probe else _cross_entropy(golden, model, output)


def _assert_loss(golden: Golden, output: BagOutput, loss: Tensor, tag: str, tolerance: float) -> None:
    scale = max(1.0, output.aux["head_logits"].abs().max().item())
    expected = golden[f"loss{SUFFIX[loss.dtype][0]}/{tag}"].item()
    assert loss.item() == pytest.approx(expected, abs=2 * tolerance * scale)  # it adds up two logits


def _cross_entropy(golden: Golden, model: MILModel, output: BagOutput) -> Tensor:
    label = torch.from_numpy(golden["label"]).flatten().to(output.logits)
    return model.loss(output, label, torch.ones_like(label))


def _gradients(model: MILModel, loss: Tensor, names: Mapping[str, str]) -> dict[str, Tensor | None]:
    """Gradients by official name; the graph is kept for another loss of the same output."""
    own, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {names[name]: gradient for name, gradient in zip(own, gradients, strict=True)}


def _probe(output: BagOutput) -> Tensor:
    first, second = output.aux["head_logits"]
    return first - 0.5 * second


def _assert_near(ours: Tensor, official: np.ndarray, tolerance: float) -> None:
    scale = max(1.0, float(np.abs(official).max()))
    torch.testing.assert_close(ours.detach(), torch.from_numpy(official), atol=tolerance * scale, rtol=0)
