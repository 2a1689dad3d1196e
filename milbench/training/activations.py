"""Activations: what a training step keeps in memory for its backward, and how to do with less.

A step on a bag of N patches keeps every intermediate result [N, ...] until its gradient is known: several
hundred megabytes for a mixture of experts on a large slide, while the weights are a few. So it is the bag's
size that decides how many members of a stack train together, and whether a model fits at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from milbench.models import MILModel
from milbench.training.precision import bags_as_here

IN_FLIGHT = 3.0
"""Gradients and temporary results beside what autograd keeps, as so many times the largest tensor of it.

Backward goes one operation at a time, so what it holds is the gradient of a result, those of its operands and a
temporary: a few tensors, however many the model keeps. The number is the one that peaks of real steps ask for.
"""

MEASURED_AT = (225, 900)
"""Patches of the two bags that a cost is drawn through: full squares, for models that lay patches on one."""


class ActivationCost(NamedTuple):
    """Memory of one model's step on one bag, beside weights, their gradients and the bag itself.

    Attributes
    ----------
    fixed, per_patch : bytes.
    """

    fixed: float
    per_patch: float

    def of(self, n_patches: int) -> int:
        """Bytes of a step on a bag of `n_patches`."""
        return ceil(self.fixed + self.per_patch * n_patches)


def activation_cost(model: MILModel) -> ActivationCost:
    """Cost of a training step of `model`, a line through two small bags on the CPU.

    The model and torch's random state stay as they are. In float32: a step in bf16 needs less.
    """
    small, large = MEASURED_AT
    of_small, of_large = (saved_bytes(model, model.in_features, n) for n in MEASURED_AT)
    per_patch = (of_large - of_small) / (large - small)
    return ActivationCost(max(0.0, of_small - per_patch * small), per_patch)


def saved_bytes(model: MILModel, in_features: int, n_patches: int, *, recomputed: bool = False) -> int:
    """Bytes that a training step of `model` needs for one bag [n_patches, in_features]; an estimate.

    What autograd keeps after the forward, every storage once, weights and the bag left out, and `IN_FLIGHT` times
    the largest of it.
    The model and torch's random state stay as they are.

    Parameters
    ----------
    recomputed : count for a step inside `recomputing`. What the backward then computes anew, one part of the
        model at a time, is not in it.
    """
    twin = copy.deepcopy(model).cpu().train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), recomputing(twin) if recomputed else nullcontext():
        kept = _kept_for_backward(twin, torch.zeros(n_patches, in_features))
    return ceil(sum(kept) + IN_FLIGHT * max(kept, default=0))


def _kept_for_backward(model: MILModel, bag: Tensor) -> list[int]:
    """Bytes of each of the storages that the backward of one bag's loss asks for, but for weights and the bag."""
    known = {_address(tensor) for tensor in (bag, *model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _address(tensor) not in known:  # what is kept stays alive, so no later storage takes its address
            sizes[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    targets = torch.zeros(model.n_tasks)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(model(bag), targets, torch.ones_like(targets))
    del loss  # its graph was what kept them
    return list(sizes.values())


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


# ---- with less -----------------------------------------------------------------------------------


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, the model's parts keep their inputs only, and the backward computes the rest anew.

    Parts are the sub-modules and, again inside of those, theirs; elements of a `ModuleList` count as one level with
    it. Results and gradients are the plain step's bit for bit, dropout included; forward parts run up to three times.
    It pays where there are several parts, such as experts or layers: one that is nearly the whole model is
    computed anew as a whole, and the peak stays.
    The backward may run inside or outside. Works with `functional_call`, but not under `vmap` or `torch.func.grad`,
    whose tensors can't be kept: give stacked members their step one after the other.
    """
    parts = _parts(model)
    former = [(part, part.__dict__.get("forward")) for part in parts]
    try:
        for part in parts:
            _set_forward(part, _checkpointed(part, part.forward))
        yield
    finally:
        for part, forward in former:
            _set_forward(part, forward)


def _parts(model: nn.Module) -> list[nn.Module]:
    """Modules worth recomputing in the two levels below `model`, each once."""
    direct = _elements(model)
    both = direct + [below for part in direct for below in _elements(part)]
    return [part for part in dict.fromkeys(both) if _holds_more_than_its_input(part)]


def _elements(module: nn.Module) -> list[nn.Module]:
    """Children, with the elements of lists and dictionaries of modules in their place."""
    containers = (nn.ModuleList, nn.ModuleDict)
    return [
        element
        for child in module.children()
        for element in (_elements(child) if isinstance(child, containers) else [child])
    ]


def _holds_more_than_its_input(module: nn.Module) -> bool:
    """False for torch's own single layers: a Linear keeps its input and no more, a Dropout is cheap to keep."""
    is_leaf = next(module.children(), None) is None
    is_torchs = type(module).__module__.startswith("torch.nn.")
    return not (is_leaf and (is_torchs or next(module.parameters(), None) is None))


def _checkpointed(part: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` of `part`, which keeps its inputs alone where gradients are wanted."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        again = _AsNow(part)
        return checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=True,
            context_fn=lambda: (nullcontext(), again), **kwargs,
        )  # fmt: skip

    return run


class _Held(NamedTuple):
    """What a module computes with."""

    module: nn.Module
    parameters: dict[str, Any]
    buffers: dict[str, Any]
    training: bool
    forward: Callable[..., Any] | None  # one of its own, such as `recomputing` gives it


class _AsNow(AbstractContextManager[None]):
    """Context with the weights, mode, parts and softmax that `part` has now, for whenever it is run again.

    By then `recomputing` may have ended, or `functional_call` have put other weights back, while torch wants
    to see the same operations. Autocast and the random state are torch's own business.
    """

    def __init__(self, part: nn.Module) -> None:
        self.now, self.softmax = _held(part.modules()), bags_as_here()
        self.undo = ExitStack()

    def __enter__(self) -> None:
        self.undo.callback(_put, _held(held.module for held in self.now))
        _put(self.now)
        self.undo.enter_context(self.softmax())

    def __exit__(self, *error: object) -> None:
        self.undo.close()


def _held(modules: Iterable[nn.Module]) -> list[_Held]:
    return [_Held(m, dict(m._parameters), dict(m._buffers), m.training, m.__dict__.get("forward")) for m in modules]


def _put(state: list[_Held]) -> None:
    for module, parameters, buffers, training, forward in state:
        module._parameters.update(parameters)
        module._buffers.update(buffers)
        module.training = training
        _set_forward(module, forward)


def _set_forward(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    """Give `module` a forward of its own, or with None its class's."""
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.__dict__["forward"] = forward


# ---- limits --------------------------------------------------------------------------------------


OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory", "HIP error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""How it is said in a RuntimeError: by the CPU's allocator on Linux and on Windows, GPU drivers and cuBLAS."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or in the process."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def members_at_once(cost: ActivationCost, n_patches: int, n_members: int, budget_bytes: int) -> tuple[int, bool]:
    """How many members of a stack take their step on a bag together, and whether even one alone must recompute.

    Parameters
    ----------
    cost : of one member; all members of a stack are the same model.
    n_members : at least 1.
    budget_bytes : for the activations of all that run together; 0 = no limit.

    Returns
    -------
    As many of `n_members` as fit, at least 1; True where not even one fits, so that it must run in `recomputing`.
    """
    one = cost.of(n_patches)
    if budget_bytes == 0 or one * n_members <= budget_bytes:
        return n_members, False
    return max(1, budget_bytes // one), one > budget_bytes
