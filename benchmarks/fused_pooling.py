"""Fused gated-attention pooling beside the plain one: operations issued and memory kept, and on a GPU milliseconds.

    python benchmarks/fused_pooling.py [--experts 1 5] [--patches 500 2000 10000 50000] [--precisions float32 tf32 bf16] [--save]

A step is forward and backward of the pooling alone, rows of 512, attention of 128, dropout 0.25. Without a GPU the kernels do
not run: their launches count, and what a step keeps is told by its sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from milbench.training.precision import arithmetic, float32_products
from milbench_baselines.layers import gated_pooling as module
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention

HIDDEN, ATTENTION, DROPOUT = 512, 128, 0.25
COUNTED = 2000
"""Patches of the bag on which operations and memory are counted."""

NOTHING_RUNS = frozenset(
    {
        "view", "transpose", "t", "unsqueeze", "squeeze", "expand", "detach", "_unsafe_view", "alias", "select", "slice", "unbind",
        "split", "split_with_sizes", "as_strided", "permute", "reshape", "empty", "new_empty", "empty_strided", "new_empty_strided",
        "empty_like",
    }
)  # fmt: skip
"""Operations that launch nothing: they make views or fresh memory."""

Pooling = Callable[..., tuple[Tensor, Tensor]]
FORMS: dict[str, Pooling] = {"plain": module.gated_pooling, "fused": module.fused_pooling}


class _Operations(TorchDispatchMode):
    """Number of operations inside that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func.overloadpacket.__name__ not in NOTHING_RUNS
        return func(*args, **(kwargs or {}))


class _Launches:
    """In place of a kernel where there is no GPU: counts its launches."""

    def __init__(self) -> None:
        self.number = 0

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        self.number += 1
        return lambda *_, **__: None


def made(experts: int, patches: int, device: str) -> tuple[nn.ModuleList, Tensor]:
    """Attentions, and rows [E, N, H] as experts have them."""
    torch.manual_seed(0)
    attentions = nn.ModuleList(GatedAttention(HIDDEN, ATTENTION, dropout=DROPOUT) for _ in range(experts)).to(device)
    return attentions, torch.randn(patches, experts, HIDDEN, device=device).transpose(0, 1)


def counted(pooling: Pooling, experts: int) -> tuple[int, float]:
    """Operations that a step on a GPU would issue, and MB that its forward keeps beside rows and weights."""
    attentions, h = made(experts, COUNTED, "cpu")
    known = {each.untyped_storage().data_ptr() for each in (h, *attentions.parameters())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    kernel = _Launches()
    kernels = SimpleNamespace(pool_blocks=kernel, merge_blocks=kernel, back_through_blocks=kernel)
    as_on_a_gpu = patch.object(Dropout, "_drawn", Dropout._one_each)
    rows = h.requires_grad_()
    factors = torch.randn(experts, HIDDEN)
    with as_on_a_gpu, patch.object(module, "_kernels", lambda: kernels), _Operations() as operations:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            pooled, _ = pooling(list(attentions), rows)
        torch.autograd.grad([pooled], [rows, *attentions.parameters()], [factors], allow_unused=True)
    return operations.number + kernel.number, sum(kept.values()) / 1e6


def step_seconds(pooling: Pooling, attentions: nn.ModuleList, h: Tensor, precision: str) -> float:
    """Seconds of one step on the GPU."""
    factors = torch.randn(len(h), HIDDEN, device=h.device)

    def step() -> None:
        with float32_products(precision):
            with arithmetic(precision, h.device):
                pooled, _ = pooling(list(attentions), h)
            torch.autograd.grad([pooled], [h, *attentions.parameters()], [factors], allow_unused=True)
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return seconds_of(step)


def timed(experts: int, patches: int, precision: str, repetitions: int) -> list[str]:
    """A row of the table: milliseconds of both forms and their ratio."""
    attentions, h = made(experts, patches, "cuda")
    h = h.to(torch.bfloat16 if precision == "bf16" else torch.float32).requires_grad_()
    work = {name: lambda form=form: step_seconds(form, attentions, h, precision) for name, form in FORMS.items()}
    found = interleaved(work, repetitions, warm_ups=3)
    plain, fused = (1e3 * median(found[name]) for name in FORMS)
    times = f"{ratio(found['plain'], found['fused']):.2f}"
    return [precision, str(experts), f"{patches:,}", f"{plain:.2f}", f"{fused:.2f}", times]


def main() -> None:
    """Count, and measure if there is a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--patches", nargs="+", type=int, default=[500, 2000, 10_000, 50_000])
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "bf16"])
    parser.add_argument("--repetitions", type=int, default=20)
    add_save_flag(parser)
    options = parser.parse_args()
    counts = [(e, name, *counted(form, e)) for e in options.experts for name, form in FORMS.items()]
    head = ["experts", "form", "operations", f"MB kept, {COUNTED:,} patches"]
    body = table(head, [[str(e), name, str(operations), f"{mb:.1f}"] for e, name, operations, mb in counts])
    if torch.cuda.is_available():
        cases = [(e, n, p) for p in options.precisions for e in options.experts for n in options.patches]
        rows = [timed(*case, options.repetitions) for case in cases]
        body += "\n\n" + table(["precision", "experts", "patches", "plain ms", "fused ms", "plain / fused"], rows)
    else:
        body += "\n\nNo GPU: nothing was timed."
    publish(options, body)


if __name__ == "__main__":
    main()
