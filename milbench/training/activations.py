"""Activations: what a training step keeps in memory for its backward, and how it can keep less.

A step on a bag of N patches keeps every intermediate result [N, ...] until its gradient is known. For a mixture of
experts on a large slide these are several hundred megabytes, while the weights are a few. So the bag's size decides
how many members of a stack train together, and whether a model fits at all.
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

from milbench.layout import Patches
from milbench.models import MILModel
from milbench.process.generators import generators_left_as_they_were, global_generators, set_global_generators
from milbench.training.precision import bags_as_here

IN_FLIGHT = 3.0
"""Memory for gradients and temporary results, in multiples of the largest tensor that autograd keeps.

The backward goes one operation at a time. So it holds the gradient of a result, the gradients of its operands and a
temporary: a few tensors, however many the model keeps. The number was fitted to the memory peaks of real steps.
"""

MEASURED_AT = (225, 900)
"""Patches of the two bags that a cost is measured at. They are squares, for models that lay patches on a square."""

BEYOND = 2304
"""Patches of a third bag, for models that take so many in another way than fewer, and then need more memory for each."""

LITTLE = 2**23
"""Bytes at 900 patches up to which the third bag is measured."""

GROWTH = 3
"""How much more memory 900 patches need than 225, at least, if both go one way. If it is less, the third bag is measured: some models
compute experts side by side on small bags, which needs more memory than 900 patches one by one.
"""


class ActivationCost(NamedTuple):
    """Memory of one model's step on one bag, without the weights, their gradients and the bag itself.

    Attributes
    ----------
    fixed, per_patch : bytes of bags that go the way of large ones.
    least : bytes of a small bag, if it goes a way of its own that needs more.
    """

    fixed: float
    per_patch: float
    least: float = 0.0

    def of(self, n_patches: int) -> int:
        """Bytes of a step on a bag of `n_patches`."""
        return ceil(max(self.least, self.fixed + self.per_patch * n_patches))

    def times(self, factor: float) -> ActivationCost:
        """So many times this cost."""
        return ActivationCost(*(factor * each for each in self))


def activation_cost(model: MILModel) -> ActivationCost:
    """Cost of a training step of `model`: a line through the costs of two bags on the CPU, or above, if another bag costs more.

    The model and torch's random state stay as they are. The cost is that of float32; a step in bf16 needs less.
    """
    small, large = MEASURED_AT
    of_small, of_large = (saved_bytes(model, model.in_features, n) for n in MEASURED_AT)
    per_patch = (of_large - of_small) / (large - small)
    fixed = max(0.0, of_small - per_patch * small)
    if of_large <= LITTLE or of_large < GROWTH * of_small:
        beyond = saved_bytes(model, model.in_features, BEYOND)
        fixed = max(0.0, min(fixed, of_large - (beyond - of_large) / (BEYOND - large) * large))
        per_patch = max(per_patch, (beyond - fixed) / BEYOND)
    line = ActivationCost(fixed, per_patch)
    return line if line.of(small) >= of_small else line._replace(least=of_small)


def saved_bytes(model: MILModel, in_features: int, n_patches: int, *, recomputed: bool = False) -> int:
    """Bytes, estimated, that a training step of `model` needs for one bag [n_patches, in_features].

    They are the storages that autograd keeps after the forward, each once and without weights and the bag, and
    `IN_FLIGHT` times the largest of them. The model and torch's random state stay as they are.

    Parameters
    ----------
    recomputed : count for a step inside `recomputing`. The results that the backward then computes again, one part of
        the model at a time, are not counted.
    """
    twin = copy.deepcopy(model).cpu().train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), recomputing(twin) if recomputed else nullcontext():
        kept = _kept_for_backward(twin, twin.bag_like(torch.zeros(n_patches, in_features)))
    return ceil(sum(kept) + IN_FLIGHT * max(kept, default=0))


def _kept_for_backward(model: MILModel, bag: Patches) -> list[int]:
    """Bytes of each storage that the backward of one bag's loss asks for, except the weights and the bag."""
    inputs = model.inputs(bag)
    given = Patches(*inputs)
    known = {_address(tensor) for tensor in (*given.tensors, *model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _address(tensor) not in known:  # what is kept stays alive, so no later storage takes its address
            sizes[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    targets = torch.zeros(model.n_tasks)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(model(*inputs), targets, torch.ones_like(targets))
    del loss  # its graph keeps them in memory
    return list(sizes.values())


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


# ---- recomputing ---------------------------------------------------------------------------------


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, the model's parts keep only their inputs, and the backward computes the rest again.

    Parts are the sub-modules of the model and the sub-modules of those; elements of a `ModuleList` count as one level
    with it. Results and gradients equal the plain step's bit for bit, dropout included. A part's forward runs up to
    three times. Recomputing saves memory if there are several parts, such as experts or layers. If one part is nearly
    the whole model, it is computed again as a whole, and the peak stays.

    The backward may run inside or outside. It works with `functional_call`. It does not work under `vmap` or
    `torch.func.grad`, whose tensors cannot be kept: give the members of a stack their steps one after the other.
    """
    parts = _parts(model)
    former = [(part, _own_forward(part)) for part in parts]
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
    """Children of `module`; the elements of lists and dictionaries of modules stand in place of these."""
    containers = (nn.ModuleList, nn.ModuleDict)
    return [
        element
        for child in module.children()
        for element in (_elements(child) if isinstance(child, containers) else [child])
    ]


def _holds_more_than_its_input(module: nn.Module) -> bool:
    """Whether recomputing `module` saves memory.

    It does not for torch's own single layers: a Linear keeps its input and no more, and a Dropout is cheap to keep.
    """
    is_leaf = next(module.children(), None) is None
    is_torchs = type(module).__module__.startswith("torch.nn.")
    return not (is_leaf and (is_torchs or next(module.parameters(), None) is None))


def _checkpointed(part: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` of `part`; if gradients are wanted, it keeps only its inputs."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        again, words = _StateOfNow(part), tuple(kwargs)
        given = (*args, *kwargs.values())
        once = {id(each): each for each in given}
        places = [list(once).index(id(each)) for each in given]

        def of_once(*each: Any) -> Any:
            """As given: torch hands out a tensor that was given twice as two, but attention asks whether its three are one."""
            own = [each[place] for place in places]
            return forward(*own[: len(args)], **dict(zip(words, own[len(args) :], strict=True)))

        return checkpoint(
            of_once, *once.values(), use_reentrant=False, preserve_rng_state=True,
            context_fn=lambda: (nullcontext(), again),
        )  # fmt: skip

    run.computes_the_same = True  # type: ignore[attr-defined]  # functions of whole layers may go past it
    return run


class _ModuleState(NamedTuple):
    """All that a module computes with."""

    module: nn.Module
    parameters: dict[str, Any]
    buffers: dict[str, Any]
    training: bool
    forward: Callable[..., Any] | None  # set on the module itself, as `recomputing` does


class _StateOfNow(AbstractContextManager[None]):
    """Context in which `part` has the weights, mode, forwards, precision of sums and random numbers that it has now.

    The backward enters it to run the part's forward again. By then `recomputing` may have ended, or `functional_call`
    may have put other weights back, while torch must see the same operations. torch itself restores autocast and its
    own random state.
    """

    def __init__(self, part: nn.Module) -> None:
        self.now, self.sums, self.generators = _states_of(part.modules()), bags_as_here(), global_generators()
        self.undo = ExitStack()

    def __enter__(self) -> None:
        self.undo.callback(_set_states, _states_of(state.module for state in self.now))
        _set_states(self.now)
        self.undo.enter_context(self.sums())
        self.undo.enter_context(generators_left_as_they_were())
        set_global_generators(self.generators)

    def __exit__(self, *error: object) -> None:
        self.undo.close()


def _states_of(modules: Iterable[nn.Module]) -> list[_ModuleState]:
    return [
        _ModuleState(module, dict(module._parameters), dict(module._buffers), module.training, _own_forward(module))
        for module in modules
    ]


def _set_states(states: list[_ModuleState]) -> None:
    for module, parameters, buffers, training, forward in states:
        module._parameters.update(parameters)
        module._buffers.update(buffers)
        module.training = training
        _set_forward(module, forward)


def _own_forward(module: nn.Module) -> Callable[..., Any] | None:
    """The forward that was set on `module` itself; None if its class's is in use."""
    forward: Callable[..., Any] | None = module.__dict__.get("forward")
    return forward


def _set_forward(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    """Give `module` a forward of its own. If `forward` is None, its class's is in use again."""
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.__dict__["forward"] = forward


# ---- limits --------------------------------------------------------------------------------------


OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory", "HIP error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""Words of the RuntimeErrors of the CPU's allocator on Linux and on Windows, of GPU drivers and of cuBLAS."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or in the process."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
