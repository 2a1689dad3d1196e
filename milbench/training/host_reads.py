"""Host reads: what a training step needs the CPU for, found while the step runs.

A CUDA graph replays the kernels of a step by one launch, and nothing of the step's Python. So a graph can hold a step only
if its Python does not depend on numbers on the GPU, and if it neither waits for the CPU nor takes numbers from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from milbench.process.generators import global_generators, same_generators

DEPEND_ON_NUMBERS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})
"""torch's marks of operators whose result, or its shape, needs numbers: `.item()`, `if tensor`, `nonzero`, `unique`, ..."""

INDEXING = frozenset({"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"})
"""They need numbers only if an index is a mask. torch marks the first in any case, and the others never."""

LITERALS = frozenset({torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor})
"""They copy numbers of Python to the device, out of sight of a `TorchDispatchMode`."""


@contextmanager
def host_reads(device: torch.device) -> Iterator[list[str]]:
    """What the step inside needs the CPU for, in words, complete when it has run. Empty = a graph can hold the step.

    The step runs as always, and its backward is watched too. A device without numbers ("meta") shows what a GPU would,
    except where a model asks for CUDA by name.

    Parameters
    ----------
    device : of the step, not the CPU.
    """
    found: dict[str, None] = {}  # each once, in order
    told: list[str] = []
    before = global_generators()
    try:
        with _Literals(device, found), _Operators(device, found):
            yield told
    finally:
        if not same_generators(before, global_generators()):
            found["draws from NumPy or Python"] = None
        told += found


class _Operators(TorchDispatchMode):
    """Notes operators."""

    def __init__(self, device: torch.device, found: dict[str, None]) -> None:
        super().__init__()
        self.device, self.found = device, found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name, named = str(func._schema.name), dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)]
        if _needs_numbers(name, func.tags, tensors):
            self.found[f"{name} needs numbers"] = None
        if named.get("generator") is not None:
            self.found[f"{name} draws from a generator of its own"] = None
        if named.get("device") == torch.device("cpu") and any(map(self._is_here, tensors)):
            self.found[f"{name} copies to the CPU"] = None
        result = func(*args, **named)  # noted before, because without numbers it may raise
        of_result = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if torch.Tag.nondeterministic_seeded in func.tags and not all(map(self._is_here, of_result)):
            self.found[f"{name} draws on the CPU"] = None
        if any(map(self._is_here, of_result)) and any(self._is_copied(name, each) for each in tensors):
            self.found[f"{name} copies from the CPU"] = None
        return result

    def _is_here(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device.type

    def _is_copied(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor elsewhere has to be copied here. A single number is an argument of the kernel instead."""
        return not self._is_here(tensor) and (tensor.ndim > 0 or "copy" in name)


class _Literals(TorchFunctionMode):
    """Notes numbers of Python that become tensors on the device."""

    def __init__(self, device: torch.device, found: dict[str, None]) -> None:
        super().__init__()
        self.device, self.found = device, found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in LITERALS and result is not next(iter(args), None) and result.device.type == self.device.type:
            self.found[f"{func.__name__} copies from the CPU"] = None
        return result


def _needs_numbers(name: str, tags: Any, tensors: list[Tensor]) -> bool:
    if name in INDEXING:
        return any(each.dtype in (torch.bool, torch.uint8) for each in tensors[1:])
    return not DEPEND_ON_NUMBERS.isdisjoint(tags)
