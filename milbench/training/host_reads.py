"""Host reads: what a training step needs the CPU for, found while the step runs.

A CUDA graph replays the kernels of a step by one launch, and nothing of the step's Python. So a graph can hold a step only
if its Python does not depend on numbers on the GPU, and if it neither waits for the CPU nor takes numbers from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
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
"""They copy numbers of Python to the device, out of sight of a `TorchDispatchMode`. So does a list as an index."""

SUBSCRIPTS = frozenset({Tensor.__getitem__, Tensor.__setitem__})


@contextmanager
def host_reads(device: torch.device, generators: Sequence[torch.Generator] = ()) -> Iterator[list[str]]:
    """What the step inside needs the CPU for, in words, complete when it has run. Empty = a graph can hold the step.

    The step runs as always, and its backward is watched too. A device without numbers ("meta") shows what a GPU would,
    except where a model asks for CUDA by name.

    Parameters
    ----------
    device : of the step. On the CPU, numbers count that the step's Python needs, but no copies.
    generators : that the step may draw from, besides torch's own.
    """
    found: dict[str, None] = {}  # each once, in order
    told: list[str] = []
    before = global_generators()
    try:
        with _Literals(device, found), _Operators(device, found, generators):
            yield told
    finally:
        if not same_generators(before, global_generators()):
            found["draws from NumPy or Python"] = None
        told += found


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators."""

    def __init__(
        self, device: torch.device, found: dict[str, None], generators: Sequence[torch.Generator] = ()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.found = device, found
        self.known_generators = [*map(_identity, generators)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name, named = str(func._schema.name), dict(kwargs or {})
        given = _tensors((args, named))
        # noted before it runs: without numbers, it may raise
        if _needs_numbers(name, func.tags, given):
            self.found[f"{name} needs numbers"] = None
        generator = named.get("generator")
        if generator is not None and _identity(generator) not in self.known_generators:
            self.found[f"{name} draws from a generator of its own"] = None
        if self._is_elsewhere(torch.device(named.get("device") or self.device)) and any(map(self._is_here, given)):
            self.found[f"{name} copies to the CPU"] = None
        result = func(*args, **named)
        made = _tensors(result)
        if torch.Tag.nondeterministic_seeded in func.tags and not all(map(self._is_here, made)):
            self.found[f"{name} draws on the CPU"] = None
        if any(map(self._is_here, made)) and any(self._is_copied(name, each) for each in given):
            self.found[f"{name} copies from the CPU"] = None
        return result

    def _is_here(self, tensor: Tensor) -> bool:
        return not self._is_elsewhere(tensor.device)

    def _is_elsewhere(self, device: torch.device) -> bool:
        return device.type != self.device.type

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
        if self.device.type != "cpu" and self._has_literal(func, args, result):
            self.found[f"{func.__name__} copies numbers of Python"] = None
        return result

    def _has_literal(self, func: Callable[..., Any], args: Sequence[Any], result: Any) -> bool:
        if func in SUBSCRIPTS:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            return args[0].device.type == self.device.type and any(
                isinstance(each, (list, np.ndarray)) for each in index
            )
        is_new = not any(result is each for each in args[:1])  # as_tensor may return what it was given
        return func in LITERALS and is_new and result.device.type == self.device.type


def _needs_numbers(name: str, tags: Any, given: list[Tensor]) -> bool:
    if name in INDEXING:
        return any(each.dtype in (torch.bool, torch.uint8) for each in given[1:])
    return not DEPEND_ON_NUMBERS.isdisjoint(tags)


def _identity(generator: torch.Generator) -> int:
    """Of what a generator wraps: each operator is given a wrapper of its own."""
    return int(getattr(generator, "_cdata", id(generator)))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
